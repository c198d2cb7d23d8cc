"""Rows of two public data sets as requests of LLM functions, with the right answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from quackllm.engine.providers.base import Request
from quackllm.udfs.base import Binding
from quackllm.udfs.classify import CLASSIFY
from quackllm.udfs.filter import FILTER
from quackllm.udfs.prompt import neutral_fields, quoted, render_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from quackllm.udfs.base import Function


@dataclass(frozen=True)
class Task:
    """A call of a function on a table.

    text: the expression that is asked about.
    right: the expression of the right answer.
    """

    file: str
    text: str
    right: str
    function: Function
    constants: Mapping[str, Any]


TASKS = {
    "sst2": Task(
        "sst2.parquet", "sentence", "label", CLASSIFY, {"labels": ["POSITIVE", "NEGATIVE"]}
    ),
    "ag_news": Task(
        "ag_news_test.parquet",
        "title || '. ' || description",
        "label",
        CLASSIFY,
        {"labels": ["World", "Sports", "Business", "Sci/Tech"]},
    ),
    "filter": Task(
        "sst2.parquet",
        "sentence",
        "CASE label WHEN 'POSITIVE' THEN 'true' ELSE 'false' END",
        FILTER,
        {"prompt": "Is this review positive?"},
    ),
}


def requests(task: Task, data: Path, count: int, seed: int = 3) -> list[tuple[Request, str]]:
    """Return a repeatable sample of the table: (request, right answer)."""
    query = f"""
        SELECT {task.text}, {task.right} FROM read_parquet(?)
        USING SAMPLE reservoir({count} ROWS) REPEATABLE ({seed})
    """
    defaults = {option.name: option.default for option in task.function.options}
    declared = task.function.declare(Binding(task.constants, defaults, ("text",)))
    return [
        (
            Request(
                instruction=declared.instruction,
                fields=render_fields(("text",), (quoted(text),)),
                answer=declared.answer,
                temperature=0.0,
                max_tokens=declared.max_tokens,
                neutral=neutral_fields(("text",)),
            ),
            label,
        )
        for text, label in duckdb.execute(query, [str(data / task.file)]).fetchall()
    ]
