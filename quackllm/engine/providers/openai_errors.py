"""What the OpenAI client raises, told as what it means for a row or a statement."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai

from quackllm.engine.providers.openai_limits import retry_after
from quackllm.errors import (
    AuthenticationFailed,
    CallError,
    CallTimedOut,
    ContextWindowExceeded,
    InvalidAnswer,
    ModelNotFound,
    ProviderError,
    RequestRefused,
    ServerFailed,
    ServerUnreachable,
    Trouble,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quackllm.engine.providers.config import Secret

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# How OpenAI, vLLM, llama.cpp, SGLang and TGI word a prompt that is too long.
_CONTEXT_WORDS = re.compile(
    r"maximum context length|context (?:size|length|window)|max_model_len|longer than the "
    r"(?:model's )?context|input (?:length|tokens?) exceed",
    re.IGNORECASE,
)
_LONGEST_DETAIL = 300
_OVERLOADED = frozenset({429, 503, 529})  # 529: as some hosted APIs say "overloaded"
_TIMED_OUT_OR_IN_CONFLICT = frozenset({408, 409})


@dataclass(frozen=True)
class Place:
    """Where calls go, for messages; `secrets` are blotted out of them."""

    url: str
    model: str
    served: Sequence[str]
    secrets: tuple[Secret, ...]
    timeout: float

    def clean(self, message: str) -> str:
        """Return one short line without the keys."""
        line = " ".join(message.split())
        for secret in self.secrets:
            line = secret.redact(line)
        if len(line) > _LONGEST_DETAIL:
            line = line[:_LONGEST_DETAIL] + "..."
        return line


def translate(error: openai.OpenAIError, place: Place) -> CallError | ProviderError:
    """Return the error of ours for what one try of a call has raised.

    A lost connection and a 400 that is about something unknown are `ServerFailed`
    here: whether they stop the statement depends on what other calls met.
    """
    if is_timeout(error):
        return timed_out(place)
    if isinstance(error, openai.APIConnectionError):
        trouble = Trouble.UNREACHABLE if _never_connected(error) else Trouble.CUT_OFF
        return ServerFailed(connection_trouble(error, place), trouble=trouble)
    if isinstance(error, openai.APIStatusError):
        return _from_status(error, place)
    said = place.clean(f"the reply of {place.url} is broken: {error}")
    return ServerFailed(said, trouble=Trouble.FAILED)


def timed_out(place: Place) -> CallTimedOut:
    """Return the error of a call that took too long."""
    return CallTimedOut(
        f"no answer from {place.url} within {place.timeout:g} s (llm_call_timeout)",
        trouble=Trouble.SILENT,
    )


def silent(place: Place) -> ServerUnreachable:
    """Return the error of a server that takes connections and never answers."""
    return ServerUnreachable(
        f"Connection Error: {place.url} takes requests and does not answer: {timed_out(place)}"
    )


def is_timeout(error: openai.OpenAIError) -> bool:
    """Tell whether the server took the request and did not answer in time."""
    if not isinstance(error, openai.APITimeoutError):
        return False
    return not _never_connected(error)


def unreachable(error: openai.APIConnectionError, place: Place) -> ServerUnreachable:
    """Return the error of a server that cannot be reached at all."""
    return ServerUnreachable(f"Connection Error: {connection_trouble(error, place)}")


def is_unexplained_refusal(error: openai.OpenAIError) -> bool:
    """Tell whether the server found fault with a request, and not with its length."""
    return isinstance(error, openai.APIStatusError) and error.status_code in (400, 422)


def error_text(error: openai.APIStatusError) -> str:
    """Return what the server said, from whichever member it put it in."""
    said = _member(error, "message") or error.message
    return str(said)


def connection_trouble(error: openai.APIConnectionError, place: Place) -> str:
    """Say what is wrong between here and the server, and what to look at."""
    if not place.url.lower().startswith(("http://", "https://")):
        return f"OPENAI_BASE_URL is '{place.url}'; an address begins with http:// or https://"
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return place.clean(f"the host of {place.url} does not resolve to an address: {cause}")
        if isinstance(cause, ssl.SSLError):
            return place.clean(
                f"TLS with {place.url} failed: {cause}. A server without TLS has an "
                "address that begins with http://"
            )
        if isinstance(cause, ConnectionRefusedError):
            return (
                f"nothing listens at {place.url}. Is the model server running, and is "
                "llm_base_url (or OPENAI_BASE_URL) its address?"
            )
    last = next(iter(reversed(list(_causes(error)))), error)
    return place.clean(f"no connection to {place.url}: {type(last).__name__} {last}".rstrip())


def _from_status(error: openai.APIStatusError, place: Place) -> CallError | ProviderError:
    status, said = error.status_code, place.clean(error_text(error))
    code = _member(error, "code")
    if status in (401, 403):
        given = "refuses the API key" if place.secrets else "wants an API key"
        return AuthenticationFailed(
            f"{place.url} {given} (HTTP {status}): set llm_api_key or OPENAI_API_KEY. "
            f"The server says: {said}"
        )
    if status == 404:
        return model_not_found(place, said)
    if status == 429 and code == "insufficient_quota":
        return RequestRefused(f"the account at {place.url} has no quota left: {said}")
    if status in (400, 413, 422):
        if code == "content_filter":
            said = f"the server's content filter refused this row: {said}"
            return InvalidAnswer(said, status=status)
        if is_context_overflow(error):
            said = f"prompt and answer are too long for {place.model}: {said}"
            return ContextWindowExceeded(said, status=status)
        return ServerFailed(
            f"{place.url} refused the request (HTTP {status}): {said}", status=status
        )
    return ServerFailed(
        f"{place.url} failed (HTTP {status}): {said}",
        trouble=_trouble(status),
        retry_after=retry_after(error.response.headers),
        status=status,
    )


def failed_line(status: int | None, error: object, place: Place) -> CallError:
    """Return the error of one request of a batch; `error`: what the API wrote in its line."""
    said = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    text = place.clean(str(said or "no answer in the results of the batch"))
    if code == "content_filter":
        return InvalidAnswer(f"the server's content filter refused this row: {text}", status=status)
    if code in _CONTEXT_CODES or _CONTEXT_WORDS.search(text):
        text = f"prompt and answer are too long for {place.model}: {text}"
        return ContextWindowExceeded(text, status=status)
    return ServerFailed(f"{place.url} failed (HTTP {status}): {text}", status=status)


def _trouble(status: int) -> Trouble | None:
    """Tell what a status says about the server; None where another try cannot help."""
    if status in _OVERLOADED:
        return Trouble.OVERLOADED
    return Trouble.FAILED if status in _TIMED_OUT_OR_IN_CONFLICT or status >= 500 else None


def model_not_found(place: Place, said: str) -> ModelNotFound:
    """Return the error that lists what there is, or was when the server was first asked."""
    if place.model in place.served:
        return ModelNotFound(
            f"{place.url} no longer serves '{place.model}': was it started anew with another "
            "model or name? Run the statement again to ask what it serves now, or choose with "
            f"SET llm_model = '...'. The server says: {said}"
        )
    if place.served:
        shown = ", ".join(f"'{name}'" for name in place.served[:10])
        return ModelNotFound(f"{place.url} has no model '{place.model}'; it serves: {shown}")
    return ModelNotFound(
        f"{place.url} knows no model '{place.model}', or the address is not that of an "
        f"OpenAI-compatible API (it usually ends in /v1). The server says: {said}"
    )


def is_context_overflow(error: openai.APIStatusError) -> bool:
    """Tell whether a 400 is about the length of the prompt, in any server's words."""
    if _member(error, "code") in _CONTEXT_CODES or _member(error, "type") in _CONTEXT_CODES:
        return True
    return _CONTEXT_WORDS.search(error_text(error)) is not None


def _member(error: openai.APIStatusError, name: str) -> Any:
    """Read a member of an error body; some servers put it at the top, some in 'error'."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    return body.get(name) if isinstance(body, dict) else None


def _never_connected(error: openai.APIConnectionError) -> bool:
    """Tell whether there was no connection; transports call a refused one a timeout, too."""
    return any(
        type(cause).__name__ in ("ConnectError", "ConnectTimeout") for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            yield from cause.exceptions
        cause = cause.__cause__ or cause.__context__
