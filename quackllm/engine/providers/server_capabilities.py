"""What the engine may count on of a server, from what was found out about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Capabilities
from quackllm.engine.providers.calibrated_labels import is_small
from quackllm.engine.providers.constraints import ServerKind

if TYPE_CHECKING:
    from quackllm.engine.providers.config import ProviderConfig
    from quackllm.engine.providers.openai_probe import Served

# Raised when labels are chosen in another way, so that older answers are not used.
_WAY_OF_CALIBRATING = "calibrated-1"

# Up to so many times the calls in flight that servers of a kind usually take are tried.
_GROWTH = 4
_CONCURRENCY = {ServerKind.VLLM: 64, ServerKind.OPENAI: 32, ServerKind.OLLAMA: 4}
_GRANULARITY = {ServerKind.OPENAI: 128, ServerKind.LLAMA_CPP: 1, ServerKind.OLLAMA: 1}
_SHORTEST_PREFIX = {ServerKind.OPENAI: 1024}
_ONE_PROMPT_PER_SLOT = frozenset({ServerKind.LLAMA_CPP, ServerKind.OLLAMA})
_SHARES_ROWS = frozenset({ServerKind.VLLM, ServerKind.OPENAI})
_COUNTS_CACHED_TOKENS = frozenset({ServerKind.OPENAI, ServerKind.LLAMA_CPP})

MOST_CONCURRENCY = _GROWTH * max(_CONCURRENCY.values())
"""Calls in flight at one server, of any kind, unless more are set."""


def capabilities_of(served: Served, model: str, config: ProviderConfig) -> Capabilities:
    """Return what a server can do for one of its models, used as a config says."""
    kind, cache, revision = served.kind, served.prefix_cache, served.revision(model)
    usual = _CONCURRENCY.get(kind, 16)
    # A server that names its slots, or answers one call after the other, has said enough.
    may_grow = config.concurrency is None and served.slots is None
    # Others take neither an opened answer nor a list of labels together with log-probabilities.
    can_calibrate = kind is ServerKind.VLLM and served.holds_choices
    small = is_small(model, revision)
    calibrated = can_calibrate and (small if config.calibrate is None else config.calibrate)
    concurrency = config.concurrency or served.slots or usual
    if calibrated:  # whose answers are others
        revision = f"{revision or ''} {_WAY_OF_CALIBRATING}".strip()
    return Capabilities(
        constrained=frozenset({"choice", "json_schema"}),
        logprobs=calibrated,
        calibrated=calibrated,
        tokenizes=served.tokenizer is not None or config.tokenizer is not None,
        reports_cached_tokens=kind in _COUNTS_CACHED_TOKENS,
        prefix_granularity=(cache.block_size if cache else None) or _GRANULARITY.get(kind),
        prefix_minimum=_SHORTEST_PREFIX.get(kind, 0),
        cache_tokens=None if cache is None else cache.tokens if cache.enabled else 0,
        kept_prompts=concurrency if kind in _ONE_PROMPT_PER_SLOT else None,
        row_first=kind in _SHARES_ROWS and not small,
        context_window=served.window(model),
        revision=revision,
        concurrency=concurrency,
        most_concurrency=_GROWTH * usual if may_grow and kind is not ServerKind.OLLAMA else None,
    )
