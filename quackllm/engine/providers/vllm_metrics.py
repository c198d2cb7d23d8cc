"""What vLLM's metrics say of its prefix cache, and what would make it reuse more."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

# A block is reused only whole. Instruction and first fields of a row are rarely longer.
_LARGEST_USEFUL_BLOCK = 64

UNTOLD_CACHED_TOKENS = (
    "this vLLM server does not say how many prompt tokens came from its prefix cache; started "
    "with --enable-prompt-tokens-details it would, and EXPLAIN ANALYZE could show it"
)


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


def advice(cache: PrefixCache | None) -> str | None:
    """Return one line on a setting of the server that wastes reuse; None for a good one."""
    if cache is None:
        return None
    if not cache.enabled:
        return (
            "this vLLM server computes every prompt from its beginning; started with "
            "--enable-prefix-caching it would reuse what prompts share"
        )
    if cache.block_size is not None and cache.block_size > _LARGEST_USEFUL_BLOCK:
        return (
            f"this vLLM server reuses prompts in blocks of {cache.block_size} tokens, and "
            "shorter beginnings not at all; started with --block-size 16 "
            "(32 on a CPU) it would reuse more"
        )
    return None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else None
