"""What a server says of its rate limits, read from the headers of a response."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Allowance

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds to wait before another try; None where the server names none.

    Read from Retry-After (seconds, or an HTTP date: RFC 9110, 10.2.3), from OpenAI's
    retry-after-ms, else from the reset of a limit of which nothing is left.
    now: the time that a date is compared with; the present when None.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is not None:
        seconds = _seconds(value)
        return _until(value, now or datetime.now(UTC)) if seconds is None else seconds
    left = allowance(headers)
    if left is None:
        return None
    used_up = ((left.requests_left, left.requests_reset), (left.tokens_left, left.tokens_reset))
    resets = [reset for remaining, reset in used_up if remaining == 0 and reset is not None]
    return max(resets, default=None)


def allowance(headers: Mapping[str, str]) -> Allowance | None:
    """Return what the x-ratelimit headers say is left; None without such headers."""
    names = ("remaining-requests", "reset-requests", "remaining-tokens", "reset-tokens")
    requests, requests_reset, tokens, tokens_reset = (
        headers.get(f"x-ratelimit-{name}") for name in names
    )
    if requests is None and tokens is None:
        return None
    return Allowance(
        _count(requests), _seconds(requests_reset), _count(tokens), _seconds(tokens_reset)
    )


def _seconds(value: str | None) -> float | None:
    """Read '1.5', '20ms' or '6m0s' as seconds; None for what is no duration."""
    text = (value or "").strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _until(value: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _count(value: str | None) -> int | None:
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
