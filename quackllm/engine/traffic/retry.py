"""Which failures of a call are worth another try, and when to make it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quackllm.errors import CallError, Trouble

if TYPE_CHECKING:
    from random import Random

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 20.0
"""Seconds: the bound of the random pause before the second try, and of any pause."""

LONGEST_WAIT = 300.0
"""Seconds that a server may ask to wait for before the statement stops instead."""

TRIES_AFTER_SILENCE = 2
"""A call without an answer in time is made twice at most: each costs the whole timeout."""


def may_try_again(error: CallError, tries: int, silences: int, max_retries: int) -> bool:
    """Tell whether a call that failed for the `tries`-th time is to be made again.

    silences: how many of the tries ended without an answer in time.
    """
    if error.trouble is None or tries > max_retries:
        return False
    return error.trouble is not Trouble.SILENT or silences < TRIES_AFTER_SILENCE


def pause_before_next(error: CallError, tries: int, random: Random) -> float:
    """Return the seconds to wait: as the server says, else a random time that grows.

    The time is drawn from the whole range from 0 ("full jitter": Brooker 2015,
    "Exponential Backoff and Jitter"), so that calls that failed together do not come
    back together. What the server names is kept, and a little more for the same reason.
    """
    spread = random.uniform(0, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(tries - 1, 10)))
    if error.retry_after is None:
        return spread
    return error.retry_after + min(spread, 0.25 * error.retry_after)
