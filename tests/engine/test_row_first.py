"""The row before the question, where several questions about the same fields share it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Capabilities, Request
from quackllm.engine.providers.prompts import chat_messages
from quackllm.testing import FakeProvider
from quackllm.udfs.base import FreeText
from quackllm.udfs.prompt import DATA_NOTE

LONG = """CREATE TABLE t AS SELECT i, 'tag ' || i % 3 AS tag,
    repeat('text ' || hash(i) || ' ', 40) AS body FROM range(24) r(i)"""
SHORT = "CREATE TABLE t AS SELECT i, 'tag ' || i % 3 AS tag, 'b' || i AS body FROM range(24) r(i)"
BOTH = "SELECT i, LLM_FILTER('Is it odd?', tag, body), LLM('Say it', body, tag) FROM t"
FILTERED = "SELECT i, LLM('Say it', body, tag) FROM t WHERE LLM_FILTER('Is it odd?', tag, body)"


def ask(
    statement: str, table: str = LONG, capabilities: Capabilities | None = None, **settings: Any
) -> tuple[list[Any], list[Request]]:
    """Run a statement; return its rows and what was asked, in order."""
    fake = FakeProvider(capabilities=capabilities)
    with quackllm.connect(provider=fake, progress=False, **settings) as con:
        con.execute(table)
        rows = con.execute(statement).fetchall()
    return sorted(map(repr, rows)), list(fake.requests)


def by_question(requests: list[Request]) -> tuple[list[Request], list[Request]]:
    first = requests[0].instruction
    one = [request for request in requests if request.instruction == first]
    return one, [request for request in requests if request.instruction != first]


def test_the_instruction_stands_first_unless_it_is_asked_for() -> None:
    _, requests = ask(BOTH)
    assert len(requests) == 48
    assert not any(request.row_first for request in requests)


@pytest.mark.parametrize(
    ("setting", "able", "first"),
    [(None, True, True), (None, False, False), (False, True, False), (True, False, True)],
)
def test_the_setting_counts_before_what_is_known_of_the_model(
    setting: bool | None, able: bool, first: bool
) -> None:
    _, requests = ask(BOTH, LONG, Capabilities(row_first=able), row_first=setting)
    assert {request.row_first for request in requests} == {first}


def test_a_second_question_shows_the_rows_as_the_first_one_did() -> None:
    rows, requests = ask(BOTH, row_first=True)
    first, second = by_question(requests)
    assert all(request.row_first for request in requests)
    assert [request.fields for request in second] == [request.fields for request in first]
    assert rows == ask(BOTH)[0]


def test_of_a_filter_the_rows_that_pass_are_shown_as_before() -> None:
    rows, requests = ask(FILTERED, row_first=True)
    first, second = by_question(requests)
    assert 0 < len(second) < len(first) == 24
    shown = [request.fields for request in first]
    places = [shown.index(request.fields) for request in second]
    assert places == sorted(places)
    assert rows == ask(FILTERED)[0]


@pytest.mark.parametrize(
    ("statement", "table", "capabilities"),
    [
        (BOTH, SHORT, None),
        (BOTH, LONG, Capabilities(cache_tokens=1000)),
        (BOTH, LONG, Capabilities(kept_prompts=8)),
        (BOTH, LONG, Capabilities(prefix_minimum=1024)),
        ("SELECT LLM_FILTER('Is it odd?', body), LLM('Say it', tag, body) FROM t", LONG, None),
        ("SELECT LLM_FILTER('x', tag, body), LLM('y', tag, body, model := 'b') FROM t", LONG, None),
        ("SELECT LLM_FILTER('x', tag, body), LLM('y', tag, body, pin := 'tag') FROM t", LONG, None),
        ("SELECT LLM_FILTER('x', tag, body), LLM_FILTER('x', body, tag) FROM t", LONG, None),
    ],
    ids=["rows shorter than questions", "a small cache", "a prompt per slot", "rows too short",
         "other fields", "another model",
         "a pinned field", "the same question twice"],
)  # fmt: skip
def test_where_nothing_is_saved_the_instruction_stays_in_front(
    statement: str, table: str, capabilities: Capabilities | None
) -> None:
    _, requests = ask(statement, table, capabilities, row_first=True)
    assert requests
    assert not any(request.row_first for request in requests)


def test_the_place_of_the_row_is_no_part_of_what_is_asked() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False, row_first=True) as con:
        con.execute(LONG)
        con.execute(BOTH).fetchall()
        con.execute("SET llm_row_first = false")
        con.execute(BOTH).fetchall()
        con.execute("SELECT LLM('Say it', tag, body) FROM t").fetchall()
    assert fake.calls == 48


def explained(con: Connection, statement: str) -> list[dict[str, Any]]:
    text = con.execute(f"EXPLAIN (FORMAT JSON) {statement}").fetchall()[0][-1]
    return [stage for stage in json.loads(text)["stages"] if stage["stage"] == "model"]


def test_explain_says_that_the_row_goes_first_and_what_the_second_question_reuses() -> None:
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute(LONG)
        plain = explained(con, BOTH)
        con.execute("SET llm_row_first = true")
        shared = explained(con, BOTH)
        text = con.execute(f"EXPLAIN {BOTH}").fetchall()[0][-1]
    assert [stage.get("row_first") for stage in plain] == [None, None]
    assert [stage.get("row_first") for stage in shared] == [True, True]
    cached = [stage["expected"]["tokens_cached"] for stage in (*plain, *shared)]
    assert cached[3] > 0.8 * shared[1]["expected"]["tokens_in"]
    assert cached[2] + cached[3] > cached[0] + cached[1]
    assert "share its prompt" in text


def test_two_questions_about_a_row_begin_alike_until_the_row_has_ended() -> None:
    fields = '{"body":"a text"}'
    prompts = [
        chat_messages(Request(f"{task}\n{DATA_NOTE}", fields, FreeText(), 0.0, 8, row_first=True))
        for task in ("Is it odd?", "Say it.")
    ]
    assert prompts[0][0] == prompts[1][0] == {"role": "system", "content": DATA_NOTE}
    assert [prompt[1]["content"] for prompt in prompts] == [
        f"{fields}\nIs it odd?",
        f"{fields}\nSay it.",
    ]
