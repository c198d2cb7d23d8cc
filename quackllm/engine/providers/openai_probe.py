"""Which software answers at an address, and what it serves: asked once, on opening.

`GET /models` is all that is asked of every server: `owned_by` tells vLLM, llama.cpp
and Ollama apart. vLLM's `/metrics` (its prefix cache) and `/version`, llama.cpp's `/props`
(window and slots) are asked for where they exist. Nothing but a refused key
or an address where nobody answers is an error here; what cannot be found out stays
unknown.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import openai

from quackllm.engine.providers.constraints import ServerKind
from quackllm.engine.providers.openai_errors import is_timeout, silent, translate, unreachable
from quackllm.engine.providers.same_model import SameModel
from quackllm.engine.providers.server_tokenizer import TokenizerApi
from quackllm.engine.providers.vllm_metrics import PrefixCache, read_prefix_cache
from quackllm.errors import AuthenticationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quackllm.engine.providers.openai_errors import Place

_PROBE_SECONDS = 20.0
_OWNERS = {
    "vllm": ServerKind.VLLM,
    "llamacpp": ServerKind.LLAMA_CPP,
    "library": ServerKind.OLLAMA,
    "openai": ServerKind.OPENAI,
    "openai-internal": ServerKind.OPENAI,
    "system": ServerKind.OPENAI,
}
_TOKENIZERS = {
    ServerKind.VLLM: TokenizerApi.VLLM,
    ServerKind.LLAMA_CPP: TokenizerApi.LLAMA_SERVER,
}
_OWNER_OF_LLAMA_CPP_PYTHON = "me"
_STRUCTURED_OUTPUTS = (0, 12)
"""The vLLM that gave up `guided_choice` and its like for it."""
_OPENAI_HOSTS = ("api.openai.com", "openai.azure.com")


@dataclass(frozen=True)
class Served:
    """What was found out; None and () where the server does not say.

    holds_choices: whether it is certain to hold an answer to a list of labels.
    tokenizer: how it tells the tokens of a prompt, None where it does not.
    """

    kind: ServerKind
    models: tuple[str, ...] = ()
    windows: tuple[int | None, ...] = ()
    prefix_cache: PrefixCache | None = None
    slots: int | None = None
    holds_choices: bool = False
    revisions: tuple[str | None, ...] = ()
    tokenizer: TokenizerApi | None = None

    def window(self, model: str) -> int | None:
        """Return the context window of a model in tokens."""
        found = dict(zip(self.models, self.windows, strict=True)).get(model)
        # llama.cpp serves its one model under any name.
        if found is None and len(self.windows) == 1:
            return self.windows[0]
        return found

    def revision(self, model: str) -> str | None:
        """Return what the server says of the model behind a name, None when nothing."""
        found = dict(zip(self.models, self.revisions, strict=False)).get(model)
        if found is None and len(self.revisions) == 1:
            return self.revisions[0]
        return found


async def probe(client: openai.AsyncOpenAI, place: Place) -> Served:
    """Ask the server who it is.

    Raises `ServerUnreachable` and `AuthenticationFailed`.
    """
    quick = client.with_options(max_retries=1, timeout=min(_PROBE_SECONDS, place.timeout))
    failure: Exception
    try:
        listing = await quick.get("/models", cast_to=object)
    except openai.APIStatusError as error:
        failure = translate(error, place)
        if not isinstance(failure, AuthenticationFailed):
            return Served(_kind_of_host(place.url))
    except openai.APIConnectionError as error:
        failure = silent(place) if is_timeout(error) else unreachable(error, place)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return Served(_kind_of_host(place.url))
    else:
        return await _describe(quick, place, _cards(listing))
    # Raised outside the handler: the client's error may quote the key.
    raise failure


async def _describe(
    client: openai.AsyncOpenAI, place: Place, cards: list[Mapping[str, Any]]
) -> Served:
    owners = {card.get("owned_by") for card in cards}
    kinds = {_OWNERS[owner] for owner in owners if owner in _OWNERS}
    kind = kinds.pop() if len(kinds) == 1 else _kind_of_host(place.url)
    models = tuple(str(card["id"]) for card in cards)
    windows = tuple(_integer(card.get("max_model_len")) for card in cards)
    revisions = tuple(_revision(card, kind) for card in cards)
    tokenizer = _TOKENIZERS.get(kind)
    if owners == {_OWNER_OF_LLAMA_CPP_PYTHON}:
        tokenizer = TokenizerApi.LLAMA_CPP_PYTHON
    found = Served(kind, models, windows, revisions=revisions, tokenizer=tokenizer)
    if kind is ServerKind.VLLM:
        metrics = await fetch_metrics(client, place)
        version = await _optional(client, place, "/version")
        return replace(
            found,
            prefix_cache=read_prefix_cache(metrics),
            holds_choices=_knows_structured_outputs(version),
        )
    if kind is ServerKind.LLAMA_CPP:
        props = await _optional(client, place, "/props")
        if isinstance(props, dict):
            settings = props.get("default_generation_settings") or {}
            window, slots = _integer(settings.get("n_ctx")), _integer(props.get("total_slots"))
            return replace(found, windows=(window,) * len(models), slots=slots, holds_choices=True)
    return found


def watched(client: openai.AsyncOpenAI, place: Place, served: Served) -> SameModel | None:
    """Return what looks at the replies of a model; None where the server says nothing of it."""
    revision = served.revision(place.model)
    if revision is None:
        return None
    ask = partial(_ask_revision, client, place, served.kind)
    return SameModel(f"'{place.model}' at {place.url}", revision, ask)


async def _ask_revision(client: openai.AsyncOpenAI, place: Place, kind: ServerKind) -> str | None:
    """Ask a server that is known what it says now of the model; None when nothing."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS / 4):
            # Connections that were idle may be closed the moment they are used.
            again = client.with_options(max_retries=1)
            cards = _cards(await again.get("/models", cast_to=object))
    except (openai.APIError, ValueError, TimeoutError):
        return None
    models = tuple(str(card["id"]) for card in cards)
    revisions = tuple(_revision(card, kind) for card in cards)
    return Served(kind, models, (None,) * len(models), revisions=revisions).revision(place.model)


async def fetch_metrics(client: openai.AsyncOpenAI, place: Place) -> object:
    """Fetch what vLLM's `/metrics` says now, None where it is closed."""
    return await _optional(client, place, "/metrics")


async def _optional(client: openai.AsyncOpenAI, place: Place, path: str) -> object:
    """Fetch what may not be there, from outside the `/v1` of the address."""
    root = place.url.removesuffix("/").removesuffix("/v1")
    try:
        async with asyncio.timeout(_PROBE_SECONDS / 4):
            return await client.with_options(max_retries=0).get(root + path, cast_to=object)
    except (openai.APIError, ValueError, TimeoutError):
        return None


def _knows_structured_outputs(version: object) -> bool:
    """Whether a vLLM of this version does what `structured_outputs` says.

    Older ones ignore it, and one that does not say its version may be older.
    """
    said = version.get("version") if isinstance(version, dict) else None
    found = re.match(r"(\d+)\.(\d+)", said) if isinstance(said, str) else None
    return found is not None and (int(found[1]), int(found[2])) >= _STRUCTURED_OUTPUTS


def _cards(listing: object) -> list[Mapping[str, Any]]:
    """Return the model cards that have an id, whatever else a server may list."""
    data = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(data, list):
        return []
    return [card for card in data if isinstance(card, dict) and "id" in card]


def _kind_of_host(url: str) -> ServerKind:
    host = urlsplit(url).hostname or ""
    return ServerKind.OPENAI if host.endswith(_OPENAI_HOSTS) else ServerKind.OTHER


def _revision(card: Mapping[str, Any], kind: ServerKind) -> str | None:
    """Return what of a card changes when another model is served under its name.

    vLLM names the folder or the repository of the weights, llama.cpp counts what is in
    the file, Ollama says when the model was made or pulled. Others say nothing of use.
    """
    if kind is ServerKind.VLLM:
        said = card.get("root"), card.get("parent")
    elif kind is ServerKind.LLAMA_CPP:
        said = card["id"], card.get("meta")
    elif kind is ServerKind.OLLAMA:
        said = card.get("created"), None
    else:
        return None
    return json.dumps(said, sort_keys=True)


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
