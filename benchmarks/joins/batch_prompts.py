"""Several pairs in a prompt on a real model: calls, tokens, seconds, and how right it stays.

    python -m benchmarks.joins.batch_prompts [--url URL] [--model NAME] [--forms]

Two of the joins of `benchmarks.peers.set_tasks`, as pairs asked alone and as 5, 10 and 20 in a
prompt. Precision and recall are those of the labels; `agrees` is the share of all pairs of which
the prompt says what the pair asked alone says, and `estimated` what EXPLAIN ANALYZE tells of that
share from its sample. The server's prefix cache is emptied before each run.

--forms: the first join once more, the answer in other forms: what each costs and how it is kept.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

import quackllm
from benchmarks.peers.set_tasks import SAME, Quality, SetTask, judge_pairs, pairs_of, set_tasks
from quackllm.engine.connection import Connection
from quackllm.udfs.filter import of_several

SIZES = (5, 10, 20)
AT_ONCE = 16
LONGEST = 200
"""Tokens of an answer about ten pairs."""


def statement(task: SetTask, option: str) -> str:
    """Return the join of a task, its LLM_FILTER with an option more."""
    return task.ways[0].sql.replace("})", "}" + option + ")")


def connected(url: str, model: str, task: SetTask) -> Connection:
    """Open a connection that has the tables of a task."""
    con = quackllm.connect(base_url=url, model=model, progress=False, cache=False)
    job = task.job(task.ways[0], url, model, "")
    for name, rows in (("t", job.rows), ("o", job.other or [])):
        values = ", ".join(f"({', '.join(map(_quoted, row.values()))})" for row in rows)
        con.execute(f"CREATE TABLE {name} AS FROM (VALUES {values}) AS v({', '.join(rows[0])})")
    return con


def _quoted(value: Any) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def empty_cache(url: str) -> None:
    """Empty the server's prefix cache."""
    httpx.post(f"{url.removesuffix('/v1')}/reset_prefix_cache", timeout=30).raise_for_status()


@dataclass(frozen=True)
class Ran:
    """One run of a join: the stage as EXPLAIN ANALYZE tells it, and the pairs found."""

    stage: dict[str, Any]
    found: set[tuple[str, str]]
    seconds: float

    def agreement(self, exact: Ran, pairs: int) -> float:
        """The share of all pairs of which both say the same."""
        return 1 - len(self.found ^ exact.found) / pairs


def run(con: Connection, url: str, sql: str) -> Ran:
    """Run a join twice: for its rows by the answers kept, and for what it costs."""
    con.execute("SET llm_cache = true; SET llm_cache_path = ':memory:'")
    empty_cache(url)
    started = time.monotonic()
    row = con.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchone()
    seconds = time.monotonic() - started
    assert row is not None
    found = {(str(a), str(b)) for a, b in con.execute(sql).fetchall()}
    return Ran(json.loads(row[1])["stages"][0], found, seconds)


HEAD = """\
| join | pairs in a prompt | calls | prompt tokens | cached | answer tokens | seconds | precision \
| recall | agrees | estimated | true where position means nothing | most different position |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|---|"""


def lines(url: str, model: str, task: SetTask) -> Iterator[str]:
    """Run a join with all sizes of prompts; give the rows of the table."""
    truth = pairs_of(task)
    with connected(url, model, task) as con:
        exact = run(con, url, statement(task, ""))
        pairs = exact.stage["tuples"]
        yield _line(task.name, "1", exact, judge_pairs(exact.found, truth), [""] * 4)
    for size in SIZES:
        with connected(url, model, task) as con:
            con.execute(f"SET llm_pairs_per_prompt = {size}")
            ran = run(con, url, statement(task, ", strategy := 'batch_prompt'"))
        measured = ran.stage["measured"]
        told = measured["agreement"]
        bias = measured["prompts"]["bias"]
        more = [
            f"{ran.agreement(exact, pairs):.3f}",
            f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})",
            f"{bias['usual']:.2f}",
            f"{bias['position']}: {bias['rate']['value']:.2f} (p = {bias['p_value']:.3f})",
        ]
        yield _line(task.name, str(size), ran, judge_pairs(ran.found, truth), more)


def _line(name: str, size: str, ran: Ran, quality: Quality, more: Sequence[str]) -> str:
    cost = ran.stage["actual"]
    cached = (cost["tokens_cached"] or 0) / max(1, cost["tokens_in"])
    cells = [
        name,
        size,
        f"{cost['calls']:,}",
        f"{cost['tokens_in']:,}",
        f"{cached:.0%}",
        f"{cost['tokens_out']:,}",
        f"{ran.seconds:.1f}",
        f"{quality.precision:.2f}",
        f"{quality.recall:.2f}",
        *more,
    ]
    return f"| {' | '.join(cells)} |"


# Forms of the answer

FORMS_HEAD = """\
| form of the answer | answer tokens | seconds | unread | precision | recall \
| true at position 1, 2, ... |
|---|--:|--:|--:|--:|--:|---|"""

Read = Callable[[str, int], list[bool] | None]


def _members(text: str, count: int) -> list[bool] | None:
    said = json.loads(text)
    return [said[str(at)] for at in range(1, count + 1)] if len(said) == count else None


def _list(text: str, count: int) -> list[bool] | None:
    said: list[bool] = json.loads(text)["answer"]
    return said if len(said) == count else None


def _numbers(text: str, count: int) -> list[bool] | None:
    said = json.loads(text)["answer"]
    return [at in said for at in range(1, count + 1)] if len(set(said)) == len(said) else None


@dataclass(frozen=True)
class Form:
    """A form of the answer: how it is asked for, held to, and read."""

    name: str
    reply: str
    regex: Callable[[int], str]
    read: Read


IN_ORDER = 'Reply in JSON {"answer": [true or false, ...]}, one for each entry, in order.'
FLAG = "(true|false)"
FORMS = (
    Form(
        "a list of booleans, of just that length",
        IN_ORDER,
        lambda n: rf'\{{"answer":\[({FLAG}(,{FLAG}){{{n - 1}}})\]\}}',
        _list,
    ),
    Form(
        "a list of booleans, of any length",
        IN_ORDER,
        lambda n: rf'\{{"answer":\[({FLAG}(,{FLAG})*)\]\}}',
        _list,
    ),
    Form(
        "a member for each pair",
        'Reply in JSON {"1": true or false, "2": ...}, a member for each entry.',
        lambda n: r"\{" + ",".join(f'"{at}":{FLAG}' for at in range(1, n + 1)) + r"\}",
        _members,
    ),
    Form(
        "the numbers of those that fit",
        'Reply in JSON {"answer": [number, ...]}, of the entries of which it is true.',
        lambda n: rf'\{{"answer":\[((10|[1-9])(,(10|[1-9])){{0,{n - 1}}})?\]\}}',
        _numbers,
    ),
)


def forms(url: str, model: str, task: SetTask, size: int = 10) -> Iterator[str]:
    """Ask the same prompts for answers in each form; give the rows of the table."""
    job, truth = task.job(task.ways[0], url, model, ""), pairs_of(task)
    others = job.other or []
    prompts = [
        (row, others[start : start + size])
        for row in job.rows
        for start in range(0, len(others), size)
    ]
    instruction = of_several(SAME, ("x", "y"), size, shared=True).declaration.instruction
    for form in FORMS:
        empty_cache(url)
        started, tokens, unread, found, by_place = time.monotonic(), 0, 0, set(), [0] * size
        told = re.sub("Reply in .*", form.reply.replace("\\", r"\\"), instruction)
        ask = partial(_asked, url, model, told, form)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            replies = list(pool.map(ask, *zip(*prompts, strict=True)))
        for (row, entries), (text, used) in zip(prompts, replies, strict=True):
            tokens += used
            flags = _read(form, text, len(entries))
            unread += flags is None
            for place, flag in enumerate(flags or ()):
                by_place[place] += flag
                if flag:
                    found.add((str(row["id"]), str(entries[place]["id"])))
        quality = judge_pairs(found, truth)
        shown = " ".join(f"{trues / len(prompts):.2f}" for trues in by_place)
        yield (
            f"| {form.name} | {tokens:,} | {time.monotonic() - started:.1f} | {unread} "
            f"| {quality.precision:.2f} | {quality.recall:.2f} | {shown} |"
        )


def _read(form: Form, text: str, count: int) -> list[bool] | None:
    try:
        return form.read(text, count)
    except (ValueError, KeyError):
        return None


def _asked(
    url: str, model: str, told: str, form: Form, row: Any, entries: Sequence[Any]
) -> tuple[str, int]:
    numbered = {str(at): {"y": entry["y"]} for at, entry in enumerate(entries, 1)}
    shown = json.dumps({"shared": {"x": row["x"]}, "entries": numbered}, separators=(",", ":"))
    body = {
        "model": model,
        "temperature": 0,
        "max_tokens": LONGEST,
        "structured_outputs": {"regex": form.regex(len(entries))},
        "messages": [
            {"role": "system", "content": told},
            {"role": "user", "content": shown},
        ],
    }
    reply = httpx.post(f"{url}/chat/completions", json=body, timeout=600).raise_for_status().json()
    return reply["choices"][0]["message"]["content"], reply["usage"]["completion_tokens"]


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8007/v1")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--forms", action="store_true")
    chosen = parser.parse_args()
    products, of_brand = set_tasks()[:2]
    if chosen.forms:
        print(FORMS_HEAD)
        for line in forms(chosen.url, chosen.model, products):
            print(line, flush=True)
        return
    print(HEAD)
    for task in (products, of_brand):
        for line in lines(chosen.url, chosen.model, task):
            print(line, flush=True)


if __name__ == "__main__":
    main()
