"""What vLLM's metrics say of its prefix cache and its queue."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_FOR_ROOM = re.compile(
    r'^vllm:num_requests_waiting_by_reason\{[^}]*reason="capacity"[^}]*\} ([\d.e+]+)$', re.MULTILINE
)
_USAGE = re.compile(r"^vllm:kv_cache_usage_perc(?:\{[^}]*\})? ([\d.e+-]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class PrefixCache:
    """The prefix cache of a vLLM server.

    block_size: tokens per block, the granularity of reuse; None when it does not say.
    tokens: tokens that it holds; None when it does not say.
    enabled: whether prefixes are reused at all.
    """

    block_size: int | None
    tokens: int | None
    enabled: bool


@dataclass(frozen=True)
class Queue:
    """What a vLLM server does at the moment.

    running: requests that are computed together. waiting: those that are not yet, for want of
        room. cache_in_use: share of its KV cache that is taken.
    """

    running: int
    waiting: int
    cache_in_use: float


def read_prefix_cache(metrics: object) -> PrefixCache | None:
    """Read the answer of `/metrics`; None where it does not speak of a cache."""
    found = _CONFIG.search(metrics) if isinstance(metrics, str) else None
    if found is None:
        return None
    config = dict(_LABEL.findall(found[1]))
    block = _count(config.get("block_size"))
    blocks = _count(config.get("num_gpu_blocks"))
    tokens = _count(config.get("kv_cache_size_tokens"))
    if tokens is None and block is not None and blocks is not None:
        tokens = block * blocks
    return PrefixCache(block, tokens, config.get("enable_prefix_caching") != "False")


def read_queue(metrics: object) -> Queue | None:
    """Read the answer of `/metrics`; None where it does not speak of requests."""
    if not isinstance(metrics, str):
        return None
    running = _sum("num_requests_running", metrics)
    waiting = _sum("num_requests_waiting", metrics)
    if running is None or waiting is None:
        return None
    # Newer servers tell those apart whose grammar is not ready yet.
    for_room = [float(value) for value in _FOR_ROOM.findall(metrics)]
    usage = [float(value) for value in _USAGE.findall(metrics)]
    return Queue(int(running), int(sum(for_room) if for_room else waiting), max(usage, default=0.0))


def _sum(name: str, metrics: str) -> float | None:
    """Add a gauge up over the engines of a server."""
    found = re.findall(rf"^vllm:{name}(?:\{{[^}}]*\}})? ([\d.e+]+)$", metrics, re.MULTILINE)
    return sum(map(float, found)) if found else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else None
