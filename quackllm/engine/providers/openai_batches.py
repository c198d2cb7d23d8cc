"""OpenAI's batch API: many requests in one file, answered within a day, for less."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import openai

from quackllm.engine.providers.openai_errors import failed_line, translate
from quackllm.errors import CallError, RequestRefused, ServerFailed

if TYPE_CHECKING:
    from openai.types import Batch

    from quackllm.engine.providers.base import Reply, Request
    from quackllm.engine.providers.openai_errors import Place

_TAG = "quackllm"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_LISTED = 100


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is.

    state: as the API has it: 'in_progress', 'completed', 'failed', 'expired', 'cancelled', ...
    files: of its answers and of its failures, as far as there are any.
    said: why it failed as a whole, '' when it has not.
    """

    id: str
    state: str
    files: tuple[str, ...] = ()
    said: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether there will be no further answers."""
        return self.state in _ENDED


@runtime_checkable
class TakesBatches(Protocol):
    """A provider whose server has a batch API."""

    @property
    def batches(self) -> OpenAIBatches:
        """The batch API."""


class OpenAIBatches:
    """The batch API of one server, for one model.

    Raises a `ProviderError` where all else would fail too, and a `CallError` where another
    try can help.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        place: Place,
        body: Callable[[Request], Mapping[str, Any]],
        read: Callable[[object, Request], Reply],
    ) -> None:
        """Use a client; body: what a request is sent as; read: the reply in a completion."""
        self._client = client
        self._place = place
        self._body = body
        self._read = read

    def line(self, name: str, request: Request) -> bytes:
        """Return one line of the file of a batch; the answer will have the same name."""
        line = {
            "custom_id": name,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": self._body(request),
        }
        return json.dumps(line).encode() + b"\n"

    async def create(self, lines: Sequence[bytes], tag: str) -> str:
        """Send a batch off and return its id; `tag` finds it again where the id got lost."""
        file = ("quackllm.jsonl", b"".join(lines))
        try:
            uploaded = await self._client.files.create(file=file, purpose="batch")
            batch = await self._client.batches.create(
                input_file_id=uploaded.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TAG: tag},
            )
        except openai.NotFoundError as error:
            failure: Exception = RequestRefused(
                f"{self._place.url} has no batch API (HTTP {error.status_code}): RESET llm_batch"
            )
        except openai.OpenAIError as error:
            failure = translate(error, self._place)
        else:
            return batch.id
        # Raised outside the handler: the client's error may quote the key.
        raise failure

    async def find(self, tag: str) -> str | None:
        """Return the id of the batch with a tag, among the latest ones."""
        try:
            page = await self._client.batches.list(limit=_LISTED)
        except openai.OpenAIError as error:
            failure = translate(error, self._place)
        else:
            found = (batch.id for batch in page.data if (batch.metadata or {}).get(_TAG) == tag)
            return next(found, None)
        raise failure

    async def status(self, batch: str) -> BatchStatus | None:
        """Ask how far a batch is; None for one that the server does not know any more."""
        try:
            found = await self._client.batches.retrieve(batch)
        except openai.NotFoundError:
            return None
        except openai.OpenAIError as error:
            failure = translate(error, self._place)
        else:
            return _status(found)
        raise failure

    async def cancel(self, batch: str) -> None:
        """Have the server stop a batch; what is answered by then stays."""
        try:
            await self._client.batches.cancel(batch)
        except openai.OpenAIError as error:
            failure = translate(error, self._place)
        else:
            return
        raise failure

    async def results(self, status: BatchStatus) -> dict[str, Mapping[str, Any]]:
        """Fetch what a batch has answered, by the names of the lines; broken lines are left out."""
        found: dict[str, Mapping[str, Any]] = {}
        for file in status.files:
            try:
                content = await self._client.files.content(file)
            except openai.OpenAIError as error:
                failure = translate(error, self._place)
            else:
                found.update(_lines(content.content))
                continue
            raise failure
        return found

    def reply(self, line: Mapping[str, Any], request: Request) -> Reply:
        """Read the reply in a line of results. Raises the `CallError` that is in it."""
        response = line.get("response")
        response = response if isinstance(response, dict) else {}
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            return self._read(body, request)
        said = line.get("error") or (body.get("error") if isinstance(body, dict) else None)
        raise failed_line(status if isinstance(status, int) else None, said, self._place)


def unanswered(batch: str, state: str) -> CallError:
    """Return the error of a request to which a batch that has ended has no answer."""
    return ServerFailed(f"the batch {batch} is {state} and has no answer to this row")


def _status(batch: Batch) -> BatchStatus:
    files = tuple(file for file in (batch.output_file_id, batch.error_file_id) if file)
    errors = batch.errors.data if batch.errors is not None else None
    said = "; ".join(error.message or error.code or "?" for error in errors or ())
    return BatchStatus(batch.id, batch.status, files, said)


def _lines(content: bytes) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("custom_id"), str):
            found[line["custom_id"]] = line
    return found
