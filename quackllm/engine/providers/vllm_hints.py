"""Settings of a vLLM server that waste time: each told once, with the flag that would help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quackllm.engine.providers.vllm_metrics import Queue, read_queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from quackllm.engine.providers.base import Usage
    from quackllm.engine.providers.vllm_metrics import PrefixCache

_REPLIES_THAT_TELL = 32  # by what they have in common

# A block is reused only whole. Instruction and first fields of a row are rarely longer.
_LARGEST_USEFUL_BLOCK = 64
_FEW_AT_A_TIME = 16
_LOOKS = 3  # at the queue: a limit of calls is one that all of them meet,
_REPLIES_BETWEEN_LOOKS = 16
_SEVERAL_STEPS = 4  # and answers of one token are limited by their prompts
_FULL = 0.9

_SMALL_BLOCKS = "--block-size 16 (32 on a CPU)"


class VLLMHints:
    """Watches the replies of one server."""

    def __init__(
        self,
        cache: PrefixCache | None,
        metrics: Callable[[], Awaitable[object]],
        tell: Callable[[str], None],
    ) -> None:
        """Watch a server.

        cache: what its metrics say of its prefix cache; None where they say nothing.
        metrics: fetches them, None where that cannot be done.
        tell: takes one line for the person.
        """
        self._cache = cache
        self._metrics = metrics
        self._tell = tell
        self._replies = self._counted = self._cached = self._decoded = 0
        self._overflowed = False
        self._queues: list[Queue] = []
        if hint := cache_advice(cache):
            tell(hint)

    async def replied(self, usage: Usage) -> None:
        """Take note of a reply."""
        self._replies += 1
        self._counted += usage.cached_tokens is not None
        self._cached += usage.cached_tokens or 0
        if self._replies == _REPLIES_THAT_TELL and (hint := self._of_cached_tokens()):
            self._tell(hint)
        if self._cache is not None and usage.completion_tokens >= _SEVERAL_STEPS:
            await self._look_at_queue()

    async def _look_at_queue(self) -> None:
        self._decoded += 1
        looks, rest = divmod(self._decoded, _REPLIES_BETWEEN_LOOKS)
        if rest or looks > _LOOKS:
            return
        queue = read_queue(await self._metrics())
        if queue is not None:
            self._queues.append(queue)
        if len(self._queues) == _LOOKS and (hint := queue_advice(self._queues)):
            self._tell(hint)

    def overflowed(self, window: int | None) -> None:
        """Take note of a prompt that was longer than the window, in tokens."""
        if window is not None and not self._overflowed:
            self._overflowed = True
            self._tell(
                f"this vLLM server takes {window:,} tokens of prompt and answer; where the model "
                "is made for more, a larger --max-model-len takes longer rows"
            )

    def _of_cached_tokens(self) -> str | None:
        """Tell what is wrong with the counts of cached tokens."""
        if self._cache is not None and not self._cache.enabled:
            return None
        # Replies without cached tokens may have no count, so one of them says nothing.
        if not self._counted:
            return (
                "this vLLM server does not say how many prompt tokens came from its prefix cache; "
                "started with --enable-prompt-tokens-details it would, and EXPLAIN ANALYZE could "
                "show it"
            )
        if self._cache is None and not self._cached:
            return (
                "this vLLM server has reused nothing of what prompts share, and does not show why "
                "in /metrics; started with --enable-prefix-caching and "
                f"{_SMALL_BLOCKS} it would"
            )
        return None


def cache_advice(cache: PrefixCache | None) -> str | None:
    """Return one line on a setting that wastes reuse; None for a good one."""
    if cache is None:
        return None
    size = cache.block_size
    is_coarse = size is not None and size > _LARGEST_USEFUL_BLOCK
    if not cache.enabled:
        flags = f"--enable-prefix-caching{' and ' + _SMALL_BLOCKS if is_coarse else ''}"
        return (
            f"this vLLM server computes every prompt from its beginning; started with {flags} it "
            "would reuse what prompts share"
        )
    if is_coarse:
        return (
            f"this vLLM server reuses prompts in blocks of {size} tokens, and "
            f"shorter beginnings not at all; started with {_SMALL_BLOCKS} it would reuse more"
        )
    return None


def queue_advice(looks: Sequence[Queue]) -> str | None:
    """Return one line on a server that computes as few calls at every look, while more wait.

    One that has just ended is not counted as running, so looks may differ by one.
    """
    running = [look.running for look in looks]
    few = max(running) < _FEW_AT_A_TIME and max(running) - min(running) <= 1
    if not few or any(look.waiting <= max(running) for look in looks):
        return None
    said = "this vLLM server computes only a few calls at a time while others wait"
    if all(look.cache_in_use > _FULL for look in looks):
        return (
            f"{said} for room in its cache; a smaller --max-model-len or more memory "
            "(--gpu-memory-utilization, VLLM_CPU_KVCACHE_SPACE) would make some"
        )
    return (
        f"{said}; a larger --max-num-seqs (for long prompts --max-num-batched-tokens) would let it "
        "compute more of them together"
    )
