"""Calls that are answered by rounds of other calls, some over all rows of a SELECT together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from quackllm.udfs.base import NOTHING, Call, CallOf, Function, Inquiry


def inner_call(call: Call, inquiry: Inquiry) -> Call:
    """Return the call of one kind that a call makes to be answered.

    It counts as the same stage (`spec`), but is another question: that of every function
    that asks it. What a failure means is decided where the tuples are answered, so a default
    value is none of its own.
    """
    declaration = inquiry.declaration
    given = call.max_tokens != call.declaration.max_tokens
    max_tokens = call.max_tokens if given else declaration.max_tokens
    asked = {
        "inquiry": inquiry.name,
        "version": inquiry.version,
        "instruction": declaration.instruction,
        "answer": repr(declaration.answer),
        "options": {
            "max_tokens": max_tokens,
            "seed": call.seed,
            "temperature": call.temperature,
        },
        "fields": sorted(inquiry.fields),
    }
    return replace(
        call,
        fields=inquiry.fields,
        declaration=declaration,
        model=inquiry.model or call.model,
        max_tokens=max_tokens,
        default=None,
        on_error=call.on_error if call.default is None else "null",
        pin=(),
        has_fallback=inquiry.has_fallback,
        identity=json.dumps(asked, ensure_ascii=False, separators=(",", ":")),
    )


def said_of_place(message: str, sql: str, functions: Iterable[Function]) -> str:
    """Add to DuckDB's error that no window function can stand somewhere what to write instead.

    Where the statement names no joint function, the error is about something else.
    """
    names = [each.name.upper() for each in functions if each.joint]
    named = next((name for name in names if name in sql.upper()), None)
    if named is None or not re.search("window function|UNNEST of window", message, re.IGNORECASE):
        return message
    return (
        f"{message}\n{named} is about all rows of its SELECT together, like a window function: it "
        "can stand in the SELECT list, in ORDER BY and in QUALIFY. Elsewhere, compute it in a "
        f"subquery, as in FROM (SELECT *, {named}(...) AS answer FROM ...): around it, the answer "
        "is a column like any other"
    )


def asked_call(call: Call, asked: Inquiry | CallOf, bind: Callable[..., Call]) -> Call:
    """Return the call of one kind that a call makes; `bind` is as `Functions.bind`.

    One of another function counts as the same stage too, unless it embeds: embeddings have a
    model and a price of their own.
    """
    if isinstance(asked, Inquiry):
        return inner_call(call, asked)
    bound = bind(asked.function, asked.constants, asked.options, asked.fields)
    return bound if bound.embeds else replace(bound, spec=call.spec)


def distinct_tuples(rows: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the distinct tuples of some rows that are not all NULL, in a fixed order."""
    return sorted({tuple(row) for row in rows if any(value != NOTHING for value in row)})


def members_of(text: str) -> list[tuple[str, ...]]:
    """Read the rows that a call in naive form is about: see `naive.members`."""
    return distinct_tuples(json.loads(text) or ())
