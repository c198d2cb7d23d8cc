"""The options that every function takes, and the checks that options are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from quackllm.errors import BindError
from quackllm.udfs.base import Option
from quackllm.udfs.prompt import did_you_mean

Check = Callable[[Any], Any]


def text(value: Any) -> str:
    """Check for a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text, not {shown(value)}")
    return value


def named_text(name: str, value: Any) -> str:
    """Check a constant argument for a text. Raises `BindError` that names the argument."""
    try:
        return text(value)
    except ValueError as error:
        raise BindError(f"{name} {error}") from None


def boolean(value: Any) -> bool:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {shown(value)}")
    return value


def scalar(value: Any) -> Any:
    """Check for a constant; what type it has to be, the type of the function says."""
    return value


def names(value: Any) -> list[str]:
    """Check for a name or a list of names."""
    given = value if isinstance(value, (list, tuple)) else [value]
    if not given or not all(isinstance(name, str) and name.strip() for name in given):
        raise ValueError(f"must be a name or a list of names, not {shown(value)}")
    return list(given)


def one_of(*words: str) -> Check:
    """Return a check for one of the words, in any case."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in words:
            known = " or ".join(f"'{word}'" for word in words)
            raise ValueError(f"must be {known}, not {shown(value)}")
        return value.lower()

    return check


def whole(low: int, high: int) -> Check:
    """Return a check for a whole number in a range."""

    def check(value: Any) -> int:
        if not _is_number(value) or value != int(value) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {shown(value)}")
        return int(value)

    return check


def number(low: float = -1e15, high: float = 1e15) -> Check:
    """Return a check for a number in a range."""

    def check(value: Any) -> float:
        if not _is_number(value) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, not {shown(value)}")
        return float(value)

    return check


def _is_number(value: Any) -> bool:
    """True for a finite number; booleans are not numbers here."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return False
    return math.isfinite(value)


def shown(value: Any) -> str:
    """Return a value as a person would write it in SQL, for error messages."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return repr(value) if isinstance(value, str) else str(value)


SHARED_OPTIONS: tuple[Option, ...] = (
    Option("model", "the model to ask: a name that the provider serves or CREATE MODEL gave", text),
    Option("temperature", "randomness of the answer, 0 for none", number(0, 2), 0.0),
    Option(
        "seed",
        "number that randomness starts from; at a temperature above 0, an answer is kept for "
        "other statements only with one",
        whole(0, 2**31 - 1),
    ),
    Option("max_tokens", "most tokens an answer may take", whole(1, 1_000_000)),
    Option(
        "on_error",
        "'null': a failed call gives NULL and a row in llm_errors(); 'error': it stops the "
        "statement",
        one_of("null", "error"),
        affects_answer=False,
    ),
    Option(
        "default_value",
        "the value of a call that failed, in the place of NULL; the failure is recorded all "
        "the same",
        scalar,
        affects_answer=False,
    ),
    Option(
        "on_budget",
        "when a budget is reached: 'error' stops the statement; 'partial' leaves the rest NULL",
        one_of("error", "partial"),
        affects_answer=False,
    ),
    Option(
        "pin",
        "a field, or a list of them, that keep their place at the front of the prompt",
        names,
        affects_answer=False,
    ),
    Option(
        "cache",
        "whether an answer of another statement may be used, and this one kept",
        boolean,
        affects_answer=False,
    ),
)


def check_options(given: Mapping[str, Any], known: Sequence[Option]) -> dict[str, Any]:
    """Return the value of every known option, checked, defaults filled in.

    NULL means the default. Raises `BindError` for an unknown option, one given twice
    in different case, and a value that its check refuses.
    """
    by_name = {option.name: option for option in known}
    values = {option.name: option.default for option in known}
    seen: set[str] = set()
    for written, value in given.items():
        name = written.lower()
        if name not in by_name:
            names = ", ".join(sorted(by_name))
            raise BindError(
                f"unknown option {written}{did_you_mean(written, by_name)} Options: {names}"
            )
        if name in seen:
            raise BindError(f"option {name} is given twice")
        seen.add(name)
        if value is None:
            continue
        try:
            values[name] = by_name[name].check(value)
        except ValueError as error:
            raise BindError(f"option {name} {error}") from None
    return values
