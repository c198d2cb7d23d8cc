"""Rows of two public data sets as requests of LLM_CLASSIFY, with the right answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from quackllm.engine.providers.base import Request
from quackllm.udfs.base import Binding
from quackllm.udfs.classify import CLASSIFY

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Task:
    """A table, the expression that is classified, and the labels of its column `label`."""

    file: str
    text: str
    labels: tuple[str, ...]


TASKS = {
    "sst2": Task("sst2.parquet", "sentence", ("POSITIVE", "NEGATIVE")),
    "ag_news": Task(
        "ag_news_test.parquet",
        "title || '. ' || description",
        ("World", "Sports", "Business", "Sci/Tech"),
    ),
}


def requests(task: Task, data: Path, count: int, seed: int = 3) -> list[tuple[Request, str]]:
    """Return a repeatable sample of the table: (request, right label)."""
    query = f"""
        SELECT {task.text}, label FROM read_parquet(?)
        USING SAMPLE reservoir({count} ROWS) REPEATABLE ({seed})
    """
    defaults = {option.name: option.default for option in CLASSIFY.options}
    declared = CLASSIFY.declare(Binding({"labels": list(task.labels)}, defaults, ("text",)))
    return [
        (
            Request(
                instruction=declared.instruction,
                fields=json.dumps({"text": text}, ensure_ascii=False),
                answer=declared.answer,
                temperature=0.0,
                max_tokens=declared.max_tokens,
                neutral='{"text": ""}',
            ),
            label,
        )
        for text, label in duckdb.execute(query, [str(data / task.file)]).fetchall()
    ]
