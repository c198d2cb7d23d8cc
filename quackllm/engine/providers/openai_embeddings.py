"""Embedding models behind the OpenAI embeddings protocol: vLLM, llama.cpp, Ollama, hosted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import openai

from quackllm.engine.providers.base import Capabilities, Reply
from quackllm.engine.providers.openai_compatible import OPENAI_URL, only_model, open_client
from quackllm.engine.providers.openai_errors import Place, timed_out, translate
from quackllm.engine.providers.openai_probe import probe, watched
from quackllm.engine.providers.openai_reply import read_usage
from quackllm.engine.providers.text_batches import TextBatches, shared_usage, wanted
from quackllm.errors import (
    CallError,
    ModelNotFound,
    ProviderError,
    ServerFailed,
    ServerUnreachable,
    Trouble,
)
from quackllm.udfs.vectors import packed, unpacked

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from quackllm.engine.providers.base import Request
    from quackllm.engine.providers.config import ProviderConfig
    from quackllm.engine.providers.same_model import SameModel

TEXTS_PER_REQUEST = 256
"""An eighth of what OpenAI takes, and enough to keep a GPU busy."""

REQUESTS = 4
"""In flight at first."""

_GROWTH = 4
_PROBE = "how many dimensions?"


async def open_openai_embeddings(config: ProviderConfig) -> OpenAIEmbeddings:
    """Return a provider for the embedding model of the server at `config.base_url`.

    One text is embedded, to learn how many dimensions the model gives. Raises
    `ServerUnreachable`, `AuthenticationFailed`, and `ModelNotFound` when there is not
    exactly one model to take or it makes no embeddings.
    """
    url = config.base_url or OPENAI_URL
    place = Place(url, config.model or "", (), config.secrets(), config.timeout)
    client = open_client(url, config)
    try:
        served = await probe(client, place)
        model = config.model or only_model(served, place, "llm_embedding_model")
        place = replace(place, model=model, served=served.models)
        sender = _Sender(client, place)
        dimensions = await _count_dimensions(sender, place)
    except BaseException:
        await client.close()
        raise
    sender.native = dimensions
    sender.same_model = watched(client, place, served)
    requests = config.concurrency or REQUESTS
    capabilities = Capabilities(
        dimensions=dimensions,
        texts_per_request=TEXTS_PER_REQUEST,
        cache_tokens=0,
        context_window=served.window(model),
        revision=served.revision(model),
        concurrency=requests * TEXTS_PER_REQUEST,
        most_concurrency=None if config.concurrency else _GROWTH * requests * TEXTS_PER_REQUEST,
    )
    return OpenAIEmbeddings(sender, place, capabilities)


class OpenAIEmbeddings:
    """A `Provider` of embeddings by one model of one server. Made by `open_openai_embeddings`."""

    def __init__(self, sender: _Sender, place: Place, capabilities: Capabilities) -> None:
        self._sender = sender
        self._place = place
        self._capabilities = capabilities
        self._batches = TextBatches(sender.send, TEXTS_PER_REQUEST)

    @property
    def model(self) -> str:
        """Name of the model, as the server lists it or the person gave it."""
        return self._place.model

    @property
    def endpoint(self) -> str:
        """The address of the embeddings, without credentials."""
        return f"{self._place.url.rstrip('/')}/embeddings"

    @property
    def capabilities(self) -> Capabilities:
        """What was found out of the model."""
        return self._capabilities

    @property
    def replaced(self) -> bool:
        """Whether the server has another model in the place of this one; see `Replaceable`."""
        same_model = self._sender.same_model
        swapped = same_model is not None and same_model.replaced
        return swapped or self._sender.no_longer_served

    async def complete(self, request: Request) -> Reply:
        """Embed the field of a request, together with those of other calls in flight."""
        return await self._batches.embed(*wanted(request))

    async def aclose(self) -> None:
        """Close the connections to the server."""
        await self._sender.client.close()

    def __repr__(self) -> str:
        return f"OpenAIEmbeddings(model={self.model!r}, endpoint={self.endpoint!r})"


class _Sender:
    """Sends lists of texts to one model of one server.

    native: the dimensions that the model gives by itself, None until that is known.
    same_model: looks whether the replies are still that model's. no_longer_served: the server
        had the model when it was first asked, and has it no more.
    """

    def __init__(self, client: openai.AsyncOpenAI, place: Place) -> None:
        self.client = client
        self.native: int | None = None
        self.same_model: SameModel | None = None
        self.no_longer_served = False
        self._place = place

    async def send(self, texts: Sequence[str], dimensions: int | None) -> list[Reply]:
        """Embed texts in one request; see `openai_errors` for what is raised when."""
        body: dict[str, Any] = {
            "model": self._place.model,
            "input": list(texts),
            "encoding_format": "base64",
        }
        if dimensions != self.native:
            body["dimensions"] = dimensions
        failure: CallError | ProviderError
        try:
            async with asyncio.timeout(self._place.timeout):
                said = await self.client.post("/embeddings", cast_to=object, body=body)
        except TimeoutError:
            failure = timed_out(self._place)
        except openai.OpenAIError as error:
            failure = translate(error, self._place)
            if isinstance(failure, ModelNotFound) and self._place.model in self._place.served:
                self.no_longer_served = True
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            broken = f"the reply of {self._place.url} is broken JSON: {error}"
            failure = ServerFailed(broken, trouble=Trouble.FAILED)
        else:
            if self.same_model is not None:
                await self.same_model.confirm(None)
            return _read(said, texts)
        # Raised outside the handler: the client's error may quote the key.
        raise failure


async def _count_dimensions(sender: _Sender, place: Place) -> int:
    """Embed a text to learn how long a model's vectors are."""
    try:
        [reply] = await sender.send([_PROBE], None)
        return len(unpacked(reply.text))
    except CallError as error:
        failure = error
    if failure.trouble is not None:
        raise ServerUnreachable(f"Connection Error: {failure}")
    raise ModelNotFound(
        f"{place.model} at {place.url} makes no embeddings: {failure}\n"
        "SET llm_embedding_model = '...' names a model that does."
    )


def _read(said: object, texts: Sequence[str]) -> list[Reply]:
    """Return one reply per text from the body of a response.

    Raises `ServerFailed` for what is no list of so many embeddings.
    """
    items = said.get("data") if isinstance(said, dict) else None
    vectors: dict[int, str] = {}
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("index"), int):
            vectors[item["index"]] = _text_of_vector(item.get("embedding"))
    if sorted(vectors) != list(range(len(texts))):
        raise ServerFailed(
            f"the server's reply holds no list of {len(texts)} embeddings", trouble=Trouble.FAILED
        )
    usages = shared_usage(read_usage(said.get("usage") if isinstance(said, dict) else None), texts)
    return [Reply(vectors[at], usage) for at, usage in enumerate(usages)]


def _text_of_vector(embedding: object) -> str:
    """Return a vector as its text: servers without base64 send a list of numbers."""
    if isinstance(embedding, str):
        return embedding
    try:
        return packed(cast("ArrayLike", embedding))
    except (TypeError, ValueError):
        raise ServerFailed("an embedding is no list of numbers", trouble=Trouble.FAILED) from None
