"""Where the time of a run goes: computing prompts, writing answers, and what a call costs.

A model server that is busy takes a time in proportion to the prompt tokens that it computes,
the tokens that it writes, and the requests that it takes; the three rates are fitted to all
runs with many calls in flight. The fit is of the relative error, so short runs count too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.llm_sql.variants import Measured


@dataclass(frozen=True)
class Rates:
    """Seconds per computed prompt token, per token of an answer, and per call.

    error: median of how far the fitted time of a run is from the measured, as a share of it.
    """

    prefill: float
    decode: float
    call: float
    error: float

    def parts(self, took: Measured) -> tuple[float, float, float]:
        """Return the seconds of a run that went into prompts, answers and calls."""
        fresh, written, calls = _amounts(took)
        return self.prefill * fresh, self.decode * written, self.call * calls


def fitted(runs: Sequence[Measured]) -> Rates | None:
    """Fit the rates; None for fewer runs than there are rates, which no fit can tell apart."""
    if len(runs) < 4:
        return None
    seconds = np.array([took.seconds for took in runs])
    amounts = np.array([_amounts(took) for took in runs]) / seconds[:, None]
    rates, kept = np.zeros(3), [0, 1, 2]
    while kept:
        found = np.linalg.lstsq(amounts[:, kept], np.ones(len(runs)), rcond=None)[0]
        if (found >= 0).all():
            rates[kept] = found
            break
        del kept[int(found.argmin())]  # nothing takes less than no time
    error = float(np.median(np.abs(amounts @ rates - 1)))
    prefill, decode, call = rates.tolist()
    return Rates(prefill, decode, call, error)


def _amounts(took: Measured) -> tuple[int, int, int]:
    return took.prompt_tokens - took.cached_tokens, took.output_tokens, took.calls
