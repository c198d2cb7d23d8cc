"""Labels of a model on vLLM against the truth: generated, calibrated, and with the question last.

    make vllm
    python -m benchmarks.prompts.labels [--rows 150] [--only WORD] [--parts] [--url URL]

generated: the constrained label, as `SET llm_calibrate = false` has it. calibrated: by
log-probability (`quackllm.engine.providers.calibrated_labels`). spaced: the row as JSON with
blanks between its parts. last: the row before the instruction, which would let a second
question about the same rows reuse their cache; only the note about the data stays in front.
short names: the row's fields are called "a", "b" and so on, and the instruction says what they
are. names once: the row is a JSON array, and the instruction names its places.
`--parts` counts instead what the forms of a row take: tokens of the instruction, and of a row.
Columns of truth are never part of a prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import Any

import duckdb
import httpx

from benchmarks.reorder.tables import data_folder
from quackllm.engine.providers.base import Request, Usage
from quackllm.engine.providers.calibrated_labels import CalibratedLabels, opened_answer
from quackllm.engine.providers.calibration import Distribution
from quackllm.engine.providers.constraints import ServerKind, constraint
from quackllm.engine.providers.openai_reply import read_first_tokens
from quackllm.engine.providers.prompts import chat_messages
from quackllm.engine.providers.short_labels import begun
from quackllm.udfs.base import Binding, Choice, Declaration
from quackllm.udfs.classify import CLASSIFY
from quackllm.udfs.filter import FILTER
from quackllm.udfs.prompt import DATA_NOTE, neutral_fields, quoted, render_fields

WAYS = (
    "generated", "generated, spaced", "generated, last", "generated, short names",
    "generated, names once", "calibrated", "calibrated, last", "calibrated, short names",
    "calibrated, names once",
)  # fmt: skip
IN_FLIGHT = 32


@dataclass(frozen=True)
class Task:
    """Rows with the right label in the column `label`; asked: a filter's question, or labels."""

    name: str
    rows: str
    asked: str | tuple[str, ...]

    def declared(self, fields: Sequence[str]) -> Declaration:
        """Return the declaration of the call."""
        function = FILTER if isinstance(self.asked, str) else CLASSIFY
        name = "prompt" if isinstance(self.asked, str) else "labels"
        value = self.asked if isinstance(self.asked, str) else list(self.asked)
        options = {option.name: option.default for option in function.options}
        return function.declare(Binding({name: value}, options, tuple(fields)))


TASKS = (
    Task(
        "reviews, 2 labels",
        "SELECT sentence AS review, lower(label) AS label FROM 'tables/rt_polarity.parquet'",
        ("positive", "negative"),
    ),
    Task(
        "news, 4 labels",
        "SELECT title, description, label FROM 'tables/ag_news_test.parquet'",
        ("World", "Sports", "Business", "Sci/Tech"),
    ),
    Task(
        "filter reviews",
        "SELECT sentence AS text, (label = 'POSITIVE')::VARCHAR AS label "
        "FROM 'tables/sst2.parquet'",
        "Is this review positive?",
    ),
    Task(
        "filter clothing",
        "SELECT title, review_text, department, (rating >= 4)::VARCHAR AS label "
        "FROM 'tables/clothing_reviews.parquet' WHERE review_text IS NOT NULL",
        "Is the customer content?",
    ),
    Task(
        "filter movies",
        "SELECT review, critic, publisher, genre, director, synopsis, "
        "(fresh = 'fresh')::VARCHAR AS label FROM 'tables/rt_reviews.parquet' "
        "JOIN 'tables/rt_movies.parquet' USING (movie_id) WHERE review IS NOT NULL",
        "Does the critic like the film?",
    ),
    Task(
        "filter listings",
        "SELECT name, host_name, host_since, host_response_time, host_is_superhost, "
        "neighbourhood_cleansed, accommodates, bathrooms_text, bedrooms, beds, price, "
        "minimum_nights, number_of_reviews, review_scores_rating, "
        "(room_type = 'Private room')::VARCHAR AS label FROM 'tables/airbnb_boston.parquet'",
        "Is it a room in the home of somebody else?",
    ),
)


class Server:
    """A vLLM server and the one model that it serves."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=600)
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._model = ""

    async def post(self, body: Mapping[str, Any]) -> Any:
        """Return the completion of a body without the model's name."""
        async with self._slots:
            if not self._model:
                listing = await self._client.get("/models")
                self._model = listing.json()["data"][0]["id"]
            reply = await self._client.post(
                "/chat/completions", json={**body, "model": self._model}
            )
        reply.raise_for_status()
        return reply.json()

    async def tokens(self, text: str) -> int:
        """Return how many tokens a text is."""
        body = {"prompt": text, "add_special_tokens": False}
        async with self._slots:
            reply = await self._client.post("../tokenize", json=body)
        count: int = reply.raise_for_status().json()["count"]
        return count

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


async def generated(
    server: Server, request: Request, form: Choice, *, last: bool
) -> tuple[str, int]:
    """Return the label that the first token decides, and the tokens of the prompt."""
    body = {
        "messages": chat_messages(replace(request, row_first=last)),
        "temperature": 0.0,
        "max_tokens": request.max_tokens,
        **constraint(form, ServerKind.VLLM).body,
    }
    completion = await server.post(body)
    text = completion["choices"][0]["message"]["content"]
    return begun(text, form.labels) or text, completion["usage"]["prompt_tokens"]


def calibrated(server: Server, *, last: bool) -> CalibratedLabels:
    """Return what chooses labels on the server as quackllm does."""

    async def first_tokens(request: Request, form: Choice) -> tuple[Distribution, Usage]:
        spaced = Choice(tuple(f" {label}" for label in form.labels))
        body = {
            "messages": chat_messages(replace(request, row_first=last)),
            "temperature": 0.0,
            "max_tokens": 1,
            **constraint(spaced, ServerKind.VLLM).body,
        }
        return read_first_tokens(await server.post(opened_answer(body)))

    return CalibratedLabels(first_tokens, held=True)


async def answers(server: Server, requests: Iterable[Request], form: Choice, way: str) -> Any:
    """Return (label, prompt tokens) of every request, asked in one way."""
    last = way.endswith("last")
    if way.startswith("generated"):
        asked = (generated(server, request, form, last=last) for request in requests)
        return await asyncio.gather(*asked)
    labels = calibrated(server, last=last)

    async def one(request: Request) -> tuple[str, int]:
        reply = await labels.complete(request, form)
        assert reply is not None, "these labels can be told apart"
        return reply.text, reply.usage.prompt_tokens

    return await asyncio.gather(*(one(request) for request in requests))


def sample(task: Task, rows: int) -> tuple[list[Request], list[str], Choice]:
    """Return a repeatable sample of the rows as requests, their right labels, and all labels."""
    with duckdb.connect() as con:
        found = con.sql(
            task.rows.replace("'tables/", f"'{data_folder()}/tables/")
            + f" USING SAMPLE reservoir({rows} ROWS) REPEATABLE (3)"
        ).to_arrow_table()
    names = [name for name in found.column_names if name != "label"]
    declared = task.declared(names)
    form = declared.answer
    assert isinstance(form, Choice)
    requests = [
        Request(
            declared.instruction,
            render_fields(names, [quoted(str(row[name] or "")) for name in names]),
            form,
            0.0,
            declared.max_tokens,
            neutral=neutral_fields(names),
        )
        for row in found.to_pylist()
    ]
    return requests, found["label"].to_pylist(), form


def spaced(request: Request) -> Request:
    """Return the request with blanks between the parts of its JSON."""
    return replace(request, fields=json.dumps(json.loads(request.fields), ensure_ascii=False))


def short_names(request: Request) -> Request:
    """Return the request with one letter for each name of its fields."""
    letters = dict(zip(json.loads(request.fields), ascii_lowercase, strict=False))
    legend = ", ".join(f"{quoted(short)} is {name}" for name, short in letters.items())
    return replace(
        request,
        instruction=request.instruction.replace(DATA_NOTE, f"{DATA_NOTE} Of them {legend}."),
        fields=_renamed(request.fields, letters),
        neutral=_renamed(request.neutral or "{}", letters),
    )


def _renamed(fields: str, names: Mapping[str, str]) -> str:
    row = json.loads(fields)
    return render_fields([names[name] for name in row], [quoted(value) for value in row.values()])


def names_once(request: Request) -> Request:
    """Return the request with the row as an array, whose places the instruction names."""
    names = ", ".join(json.loads(request.fields))
    note = DATA_NOTE.replace("object:", f"array of {names}:")
    return replace(
        request,
        instruction=request.instruction.replace(DATA_NOTE, note),
        fields=_bare(request.fields),
        neutral=_bare(request.neutral or "{}"),
    )


def _bare(fields: str) -> str:
    values = list(json.loads(fields).values())
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


REWRITTEN: Mapping[str, Callable[[Request], Request]] = {
    "spaced": spaced,
    "short names": short_names,
    "names once": names_once,
}
"""By the end of a way, what it makes of the requests."""


def as_asked(request: Request, way: str) -> Request:
    """Return the request as a way sends it."""
    _, _, form = way.partition(", ")
    return REWRITTEN[form](request) if form in REWRITTEN else request


async def report(url: str, rows: int, only: str) -> None:
    """Ask every task in every way; print accuracy and mean tokens of a prompt."""
    server = Server(url)
    print(f"| task | rows | {' | '.join(WAYS)} |\n|---|--:|{'--:|' * len(WAYS)}")
    for task in (task for task in TASKS if only in task.name):
        requests, right, form = sample(task, rows)
        cells = []
        for way in WAYS:
            asked = [as_asked(request, way) for request in requests]
            found = await answers(server, asked, form, way)
            hits = sum(label == truth for (label, _), truth in zip(found, right, strict=True))
            tokens = sum(count for _, count in found) / len(found)
            cells.append(f"{hits / len(right):.2f} ({tokens:.0f})")
        print(f"| {task.name} | {len(right)} | {' | '.join(cells)} |", flush=True)
    await server.close()


async def report_parts(url: str, rows: int, only: str) -> None:
    """Print the tokens of instruction + row of every task, in every form of the row."""
    server = Server(url)
    forms = ("in full", *REWRITTEN)
    print(f"| task | {' | '.join(forms)} |\n|---|{'--:|' * len(forms)}")
    for task in (task for task in TASKS if only in task.name):
        requests, _, _ = sample(task, rows)
        cells = []
        for form in forms:
            asked = [as_asked(request, f"calibrated, {form}") for request in requests]
            fields = await asyncio.gather(*(server.tokens(request.fields) for request in asked))
            instruction = await server.tokens(asked[0].instruction)
            cells.append(f"{instruction} + {sum(fields) / len(fields):.0f}")
        print(f"| {task.name} | {' | '.join(cells)} |", flush=True)
    await server.close()


def main() -> None:
    """Read the arguments and report."""
    parser = argparse.ArgumentParser(description="Accuracy of labels on vLLM, by way of asking.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--only", default="", help="tasks whose name has this in it")
    parser.add_argument("--parts", action="store_true", help="count tokens, ask nothing")
    given = parser.parse_args()
    wanted = report_parts if given.parts else report
    asyncio.run(wanted(given.url, given.rows, given.only))


if __name__ == "__main__":
    main()
