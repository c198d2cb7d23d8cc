"""LLM_CLUSTER: topics of all rows together, the same in whatever order the rows come."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.errors import BindError, CallError
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Choice, Embedding, FreeText
from tests.engine.conftest import open_pair
from tests.engine.words import by_first_word

TEXTS = """
CREATE TABLE tickets AS SELECT i AS id, ['refund', 'login', 'delivery'][i % 3 + 1]
    || ' problem ' || i // 2 AS body FROM range(60) r(i);
INSERT INTO tickets VALUES (60, NULL);
"""

NAIVE = [
    "SELECT id, LLM_CLUSTER(body, k := 3) FROM reviews",
    "SELECT id, LLM_CLUSTER(body, k := 2, assign := 'nearest') FROM reviews WHERE id > 20",
    "SELECT stars, LLM_CLUSTER(body, k := 2) OVER (PARTITION BY stars) FROM reviews",
    "SELECT topic, count(*) FROM (SELECT LLM_CLUSTER(body) AS topic FROM reviews) GROUP BY topic",
    "SELECT LLM_CLUSTER(synopsis, k := 3) FROM movies ORDER BY id LIMIT 5",
]


def connect(answer: Any = by_first_word) -> Any:
    fake = FakeProvider(answer=answer)
    con = quackllm.connect(provider=fake, progress=False)
    con.execute(TEXTS)
    return con, fake


def asked(fake: FakeProvider, form: type) -> list[Request]:
    return [request for request in fake.requests if isinstance(request.answer, form)]


@pytest.mark.parametrize("assign", ["classify", "nearest"])
@pytest.mark.parametrize("k", ["", ", k := 3"])
def test_texts_have_the_topic_of_their_group(k: str, assign: str) -> None:
    con, fake = connect()
    rows = con.execute(
        f"SELECT id, body, LLM_CLUSTER(body{k}, assign := '{assign}') FROM tickets ORDER BY id"
    ).fetchall()
    assert all(topic == body.split()[0] for _, body, topic in rows[:-1])
    assert rows[-1] == (60, None, None)
    calls = Counter(type(request.answer) for request in fake.requests)
    assert calls == Counter({Embedding: 60, FreeText: 3, Choice: 60 * (assign == "classify")})


@pytest.mark.parametrize("sql", NAIVE)
def test_the_plan_gives_what_a_call_per_row_gives(sql: str) -> None:
    pair = open_pair()
    planned, naive = pair.run_planned(sql), pair.run_naive(sql)
    assert planned[1] == naive[1]
    assert sorted(map(repr, planned[0])) == sorted(map(repr, naive[0]))
    assert pair.planned_fake.calls <= pair.naive_fake.calls


def test_the_order_of_rows_makes_no_difference() -> None:
    con, fake = connect(None)
    sql = "SELECT id, LLM_CLUSTER(body) FROM {} ORDER BY id"
    first = con.execute(sql.format("tickets")).fetchall()
    calls = fake.calls
    con.execute("CREATE TABLE turned AS FROM tickets ORDER BY hash(id)")
    assert con.execute(sql.format("turned")).fetchall() == first
    assert fake.calls == calls, "the same questions, which are answered"


def test_embeddings_and_labels_are_the_same_questions_as_in_sql() -> None:
    con, fake = connect()
    con.execute("SELECT LLM_CLUSTER(body, k := 3) FROM tickets")
    forms = {each.answer for each in asked(fake, Choice) if isinstance(each.answer, Choice)}
    [labels] = [form.labels for form in forms]
    before = fake.calls
    con.execute(f"SELECT LLM_EMBED(body), LLM_CLASSIFY(body, {list(labels)}) FROM tickets")
    assert fake.calls == before


def test_a_group_by_around_it_counts_topics() -> None:
    con, _ = connect()
    rows = con.execute(
        "SELECT topic, count(*) AS n FROM (SELECT LLM_CLUSTER(body, k := 3) AS topic "
        "FROM tickets) GROUP BY topic HAVING n > 1 ORDER BY topic"
    ).fetchall()
    assert rows == [("delivery", 20), ("login", 20), ("refund", 20)]


def named(*names: str) -> Any:
    """Give the names in turn; the last one ever after."""
    left = list(names)

    def answer(request: Request) -> str:
        if isinstance(request.answer, FreeText):
            return left.pop(0) if len(left) > 1 else left[0]
        return by_first_word(request)

    return answer


def test_a_name_that_comes_twice_is_asked_for_again() -> None:
    con, fake = connect(named("Trouble", '"trouble".', "Other", "Logins"))
    rows = con.execute(
        "SELECT DISTINCT LLM_CLUSTER(body, k := 3, assign := 'nearest') AS t FROM tickets "
        "WHERE body IS NOT NULL ORDER BY t"
    ).fetchall()
    assert rows == [("Logins",), ("Other",), ("Trouble",)]
    [*_, again] = asked(fake, FreeText)
    assert json.loads(again.fields)["others"] == ["Other", "Trouble"]


@pytest.mark.parametrize("assign", ["classify", "nearest"])
def test_groups_that_cannot_be_told_apart_are_one_topic(assign: str) -> None:
    con, fake = connect(named("Trouble"))
    rows = con.execute(
        f"SELECT DISTINCT LLM_CLUSTER(body, k := 3, assign := '{assign}') FROM tickets "
        "WHERE id < 60"
    ).fetchall()
    assert rows == [("Trouble",)]
    assert not asked(fake, Choice), "one label is no question"


def failing(form: type, word: str) -> Any:
    def answer(request: Request) -> str:
        if isinstance(request.answer, form) and word in request.fields:
            raise CallError("no")
        return by_first_word(request)

    return answer


@pytest.mark.parametrize(
    ("form", "assign", "missing"),
    [
        (FreeText, "nearest", 20),  # a topic without a name: its texts have none
        (FreeText, "classify", 60),  # no text can be said to belong to another topic
        (Embedding, "nearest", 20),
        (Choice, "classify", 20),
    ],
)
def test_a_failure_is_null_for_what_depends_on_it(form: type, assign: str, missing: int) -> None:
    con, _ = connect(failing(form, "login"))
    sql = (
        f"SELECT id, LLM_CLUSTER(body, k := 3, assign := '{assign}'{{}}) FROM tickets WHERE id < 60"
    )
    topics = [topic for _, topic in con.execute(sql.format("")).fetchall()]
    assert topics.count(None) == missing
    assert con.execute("SELECT count(*) > 0 FROM llm_errors()").fetchone() == (True,)
    others = con.execute(sql.format(", default_value := '?'")).fetchall()
    assert [topic for _, topic in others].count("?") == missing
    with pytest.raises(CallError):
        con.execute(sql.format(", on_error := 'error'"))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("SELECT 'x' AS x WHERE false", []),
        ("SELECT 'x 1' AS x", ["x"]),
        ("SELECT NULL AS x FROM range(2)", [None, None]),
        ("SELECT 'x 1' AS x FROM range(3)", ["x"] * 3),
        ("SELECT 'x 1' AS x UNION ALL SELECT 'y 2'", ["x", "y"]),
    ],
)
def test_more_topics_than_texts(rows: str, expected: list[Any]) -> None:
    con, _ = connect()
    found = con.execute(f"SELECT LLM_CLUSTER(x, k := 50) AS t FROM ({rows}) ORDER BY t").fetchall()
    assert [topic for (topic,) in found] == expected
    con.execute(f"SELECT LLM_CLUSTER(x) FROM ({rows})")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("LLM_CLUSTER(body, id)", "too many arguments"),
        ("LLM_CLUSTER({'a': body, 'b': id})", "one text"),
        ("LLM_CLUSTER(body, k := 0)", "option k must be a whole number from 1 to 200"),
        ("LLM_CLUSTER(body, assign := 'far')", "must be 'classify' or 'nearest'"),
        ("LLM_CLUSTER()", "missing"),
    ],
)
def test_what_is_wrong_is_said(call: str, message: str) -> None:
    con, fake = connect()
    with pytest.raises((BindError, duckdb.Error), match=message):
        con.execute(f"SELECT {call} FROM tickets")
    assert fake.calls == 0


def test_explain_tells_the_calls_before_and_after() -> None:
    con, fake = connect()
    sql = "SELECT LLM_CLUSTER(body, k := 3) FROM tickets"
    plan = con.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()[0][1]
    assert fake.calls == 0
    assert json.loads(plan)["total"]["expected"]["calls"] == 123
    analyzed = con.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchall()[0][1]
    stages = json.loads(analyzed)["stages"]
    told = {stage["stage"]: stage["actual"]["calls"] for stage in stages if "actual" in stage}
    assert told == {"model": 63, "for model 1": 60}  # names and labels, then embeddings
    assert con.execute("SELECT calls FROM llm_queries()").fetchall()[-1] == (123,)
