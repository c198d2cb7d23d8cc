"""Bare numbers of a range as a regular expression and as a GBNF grammar.

A number written in a few tokens is most of what a score costs to decode, so its digits are
bounded: after the point it has as many as tell a hundredth of the range, at most.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quackllm.udfs.base import Number

_MOST_WHOLES = 1_000
"""Whole parts that are listed one by one; beyond that only their digits are counted."""


@dataclass(frozen=True)
class _Pattern:
    """Texts of numbers: a whole number, then perhaps a point and up to `places` digits.

    wholes: the whole numbers; None for any of up to `digits` digits, `signed` if it may be
        negative.
    """

    places: int
    wholes: tuple[str, ...] | None = None
    digits: int = 0
    signed: bool = False

    def regex(self) -> str:
        if self.wholes is None:
            sign = "-?" if self.signed else ""
            whole = f"{sign}(0|[1-9][0-9]{{0,{self.digits - 1}}})"
        else:
            whole = f"({'|'.join(self.wholes)})"
        return whole + (rf"(\.[0-9]{{1,{self.places}}})?" if self.places else "")

    def gbnf(self) -> str:
        if self.wholes is None:
            sign = '"-"? ' if self.signed else ""
            whole = f'{sign}("0" | [1-9] [0-9]{{0,{self.digits - 1}}})'
        else:
            whole = "(" + " | ".join(f'"{text}"' for text in self.wholes) + ")"
        return whole + (f' ("." [0-9]{{1,{self.places}}})?' if self.places else "")


def number_regex(form: Number) -> str:
    """Return a regular expression whose texts are numbers of the range."""
    return "|".join(pattern.regex() for pattern in _patterns(form))


def number_grammar(form: Number) -> str:
    """Return a GBNF grammar of the same texts."""
    return "root ::= " + " | ".join(pattern.gbnf() for pattern in _patterns(form))


def _patterns(form: Number) -> list[_Pattern]:
    """Return patterns that hold the range, exactly where its bounds are whole numbers.

    A fraction moves a number away from zero: a whole number that it would move out of the
    range stands alone.
    """
    extent = min(form.high - form.low, sys.float_info.max)
    places = max(0, 2 - math.floor(math.log10(extent)))
    low, high = math.floor(form.low), math.ceil(form.high)
    if high - low > _MOST_WHOLES:
        digits = len(str(max(abs(low), abs(high))))
        return [_Pattern(places, digits=digits, signed=low < 0)]
    inside = [str(whole) for whole in range(max(low, 0), high)]
    inside += [f"-{-whole}" for whole in range(low + 1, min(high, 0) + 1)]
    bounds = [str(int(bound)) for bound in (form.low, form.high) if bound == int(bound)]
    alone = tuple(bound for bound in bounds if bound not in inside)
    found = [_Pattern(places, tuple(inside))] if inside else []
    return [*found, _Pattern(0, alone)] if alone else found
