"""What a vLLM server counted: the same measure for every system."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import httpx

_COUNTERS = {
    "calls": "vllm:request_success_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "cached_tokens": "vllm:prefix_cache_hits_total",
    "output_tokens": "vllm:generation_tokens_total",
}
_AT_WORK = ("vllm:num_requests_running", "vllm:num_requests_waiting")


@dataclass(frozen=True)
class Counted:
    """Totals since the server started. calls: requests that ended, cancelled ones included."""

    calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    def __sub__(self, before: Counted) -> Counted:
        """Return what came in between."""
        return Counted(
            self.calls - before.calls,
            self.prompt_tokens - before.prompt_tokens,
            self.cached_tokens - before.cached_tokens,
            self.output_tokens - before.output_tokens,
        )


def read(url: str) -> Counted:
    """Read the counters of the server with this base URL."""
    return counted_in(_metrics(url))


def counted_in(page: str) -> Counted:
    """Read the counters of what `/metrics` says."""
    return Counted(**{name: _total(page, metric) for name, metric in _COUNTERS.items()})


def _metrics(url: str) -> str:
    address = f"{url.removesuffix('/v1')}/metrics"
    return httpx.get(address, timeout=60).raise_for_status().text


def _total(page: str, metric: str) -> int:
    found = re.findall(rf"^{re.escape(metric)}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    return round(sum(map(float, found)))


def until_idle(url: str, seconds: float = 60.0) -> None:
    """Wait until the server works on nothing: a system that was ended leaves calls behind."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        page = _metrics(url)
        if not any(_total(page, metric) for metric in _AT_WORK):
            return
        time.sleep(0.2)
