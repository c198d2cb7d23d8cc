"""llm_dedup: rows about one thing are one cluster, and nothing is merged without an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.engine.table_functions import TableFunction
from quackllm.engine.table_functions.dedup import DEDUP, DEDUP_PAIRS
from quackllm.errors import BindError, BudgetExceeded, CallError, RequestRefused
from quackllm.testing import FakeProvider, Fault
from quackllm.udfs.base import Choice, Embedding
from tests.engine.words import by_first_word

PRODUCTS = """
CREATE TABLE products (id INTEGER, name VARCHAR, price DOUBLE);
INSERT INTO products VALUES
    (1, 'lamp red', 5.0), (2, 'lamp of red glass', NULL), (3, 'lamp red', NULL),
    (4, 'chair', 9.0), (5, NULL, 1.0), (6, 'table oak', 3.0), (7, 'table', 3.0), (8, NULL, 1.0);
"""


def connect(answer: Any = by_first_word, faults: tuple[Fault, ...] = ()) -> Any:
    fake = FakeProvider(answer=answer, faults=faults)
    con = quackllm.connect(provider=fake, progress=False)
    con.execute(PRODUCTS)
    return con, fake


@pytest.fixture
def con() -> Iterator[quackllm.Connection]:
    connection, _ = connect()
    yield connection
    connection.close()


def asked(fake: FakeProvider, form: type) -> list[Request]:
    return [request for request in fake.requests if isinstance(request.answer, form)]


def test_rows_about_one_thing_are_a_cluster_with_one_canonical_row(
    con: quackllm.Connection,
) -> None:
    rows = con.execute(
        "SELECT id, cluster_id, is_canonical, cluster_rows, conflicts, unanswered "
        "FROM llm_dedup('products', 'name')"
    ).fetchall()
    assert rows == [
        (1, 2, True, 3, 0, 0),  # no NULL, which counts for more than the longer text of 2
        (2, 2, False, 3, 0, 0),
        (3, 2, False, 3, 0, 0),
        (4, 1, True, 1, 0, 0),
        (5, None, True, 1, 0, 0),  # who knows what it is; WHERE is_canonical keeps it
        (6, 3, True, 2, 0, 0),
        (7, 3, False, 2, 0, 0),
        (8, None, True, 1, 0, 0),
    ]


def test_each_distinct_text_is_embedded_once_and_each_pair_compared_once() -> None:
    con, fake = connect()
    con.execute("FROM llm_dedup('products', 'name')").fetchall()
    assert len(asked(fake, Embedding)) == 5
    pairs = [tuple(json.loads(r.fields).values()) for r in asked(fake, Choice)]
    assert sorted(map(sorted, pairs)) == [["lamp of red glass", "lamp red"], ["table", "table oak"]]
    before = fake.calls
    con.execute("SELECT * FROM llm_dedup_pairs('products', 'name')").fetchall()
    con.execute(
        "FROM llm_dedup('products', 'name') a JOIN llm_dedup('products', 'name') b USING (id)"
    )
    assert fake.calls == before, "the same questions again"


def test_the_order_of_rows_makes_no_difference() -> None:
    con, fake = connect()
    sql = "SELECT id, cluster_id, is_canonical FROM llm_dedup('{}', 'name') ORDER BY id"
    first = con.execute(sql.format("products")).fetchall()
    calls = fake.calls
    con.execute("CREATE TABLE turned AS FROM products ORDER BY id DESC")
    assert con.execute(sql.format("turned")).fetchall() == first
    assert fake.calls == calls


def test_rows_keep_their_order_whatever_order_is_the_default(con: quackllm.Connection) -> None:
    con.execute("SET default_order = 'DESC'")
    rows = con.execute("SELECT id, is_canonical FROM llm_dedup('products', 'name')").fetchall()
    assert [number for number, _ in rows] == list(range(1, 9))
    assert [number for number, canonical in rows if canonical] == [1, 4, 5, 6, 8]


def contradicting(request: Request) -> str:
    """Say that all are the same but x 1 and x 3."""
    if isinstance(request.answer, Choice):
        different = {"x 1", "x 3"} == set(json.loads(request.fields).values())
        return "false" if different else "true"
    return by_first_word(request)


def test_contradictions_are_reported_and_do_not_split() -> None:
    con, _ = connect(contradicting)
    con.execute("CREATE TABLE t AS SELECT 'x ' || i AS x FROM range(1, 4) r(i)")
    assert con.execute("SELECT * FROM llm_dedup('t', 'x')").fetchall() == [
        ("x 1", 1, True, 3, 1, 0),
        ("x 2", 1, False, 3, 1, 0),
        ("x 3", 1, False, 3, 1, 0),
    ]
    pairs = con.execute(
        "SELECT a, b, same FROM llm_dedup_pairs('t', 'x') WHERE is_conflict"
    ).fetchall()
    assert pairs == [("x 1", "x 3", False)]


def failing(form: type, *texts: str) -> Any:
    def answer(request: Request) -> str:
        values = json.loads(request.fields).values()
        if isinstance(request.answer, form) and set(values) & set(texts):
            raise CallError("no")
        return by_first_word(request)

    return answer


def test_a_comparison_that_failed_is_no_match_and_is_counted() -> None:
    con, _ = connect(failing(Choice, "lamp of red glass"))
    rows = con.execute(
        "SELECT id, cluster_id, unanswered FROM llm_dedup('products', 'name') WHERE id < 5"
    ).fetchall()
    assert rows == [(1, 3, 1), (2, 2, 1), (3, 3, 1), (4, 1, 0)]
    assert con.execute(
        "SELECT a, b, same, is_conflict FROM llm_dedup_pairs('products', 'name') WHERE same IS NULL"
    ).fetchall() == [("lamp of red glass", "lamp red", None, False)]
    assert con.execute("SELECT count(*) FROM llm_errors() WHERE function = 'llm_filter'").fetchone()


def test_a_text_without_an_embedding_is_alone_and_recorded() -> None:
    con, _ = connect(failing(Embedding, "lamp red"))
    rows = con.execute(
        "SELECT id, cluster_id, cluster_rows FROM llm_dedup('products', 'name') WHERE id < 4"
    ).fetchall()
    assert rows == [(1, 3, 2), (2, 2, 1), (3, 3, 2)], "1 and 3 are equal texts"
    assert con.execute("SELECT function FROM llm_errors()").fetchall() == [("llm_embed",)]


def test_a_failure_may_stop_the_statement_instead() -> None:
    con, _ = connect(failing(Choice, "lamp red"))
    con.execute("SET llm_on_error = 'error'")
    with pytest.raises(CallError):
        con.execute("FROM llm_dedup('products', 'name')")


def test_a_budget_ends_it_or_leaves_pairs_unanswered() -> None:
    con, fake = connect()
    con.execute("SET llm_max_calls = 6")
    with pytest.raises(BudgetExceeded):
        con.execute("FROM llm_dedup('products', 'name', k := 1)")
    con, fake = connect()
    con.execute("SET llm_max_calls = 6; SET llm_on_budget = 'partial'")
    rows = con.execute("SELECT sum(unanswered) FROM llm_dedup('products', 'name')").fetchall()
    assert fake.calls == 6
    assert rows[0][0] > 0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("SELECT 'x' AS x WHERE false", []),
        ("SELECT 'x' AS x", [("x", 1, True, 1)]),
        ("SELECT NULL AS x FROM range(2)", [(None, None, True, 1)] * 2),
        ("SELECT 'x' AS x FROM range(3)", [("x", 1, True, 3), *[("x", 1, False, 3)] * 2]),
        ("SELECT '' AS x UNION ALL SELECT 'a'", [("", 1, True, 1), ("a", 2, True, 1)]),
    ],
)
def test_tables_with_hardly_anything_to_compare(rows: str, expected: list[Any]) -> None:
    con, fake = connect()
    con.execute(f"CREATE TABLE t AS {rows}")
    found = con.execute(
        "SELECT * EXCLUDE (conflicts, unanswered) FROM llm_dedup('t', 'x', k := 100) "
        "ORDER BY x, is_canonical DESC"
    ).fetchall()
    assert found == expected
    assert con.execute("SELECT count(*) FROM llm_dedup_pairs('t', 'x')").fetchone() == (0,)
    assert not asked(fake, Choice)


def test_other_tables_views_ctes_and_types(con: quackllm.Connection) -> None:
    con.execute('CREATE VIEW "odd v" AS SELECT id, [name] AS "the ""name" FROM products')
    counted = "SELECT max(cluster_id), count(*) FROM "
    assert con.execute(counted + "llm_dedup('\"odd v\"', 'the \"name')").fetchone() == (5, 8)
    cte = "WITH x AS (SELECT name FROM products WHERE id < 4) "
    assert con.execute(cte + counted + "llm_dedup('x', 'NAME')").fetchone() == (1, 3)
    con.execute("CREATE TABLE kept AS FROM llm_dedup('products', 'name') WHERE is_canonical")
    assert con.execute("SELECT list(id ORDER BY id) FROM kept").fetchone() == ([1, 4, 5, 6, 8],)
    con.execute("CREATE VIEW clusters AS FROM llm_dedup('products', 'name')")
    assert con.execute("SELECT count(DISTINCT cluster_id) FROM clusters").fetchone() == (3,)


def test_another_question_and_other_models() -> None:
    con, fake = connect()
    con.execute(
        "FROM llm_dedup('products', 'name', prompt := 'Is {b} a kind of {a}?', threshold := 0, "
        "model := 'big', embedding_model := 'small')"
    )
    assert 'Is "b" a kind of "a"?' in asked(fake, Choice)[0].instruction


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'products', 'nme'", "no column nme, did you mean name"),
        ("'products', NULL", "column"),
        ("'products'", "wrong number of arguments"),
        ("'nowhere', 'name'", "nowhere"),
        ("'products', 'name', k := 0", "option k must be a whole number from 1 to 100"),
        ("'products', 'name', threshold := 2", "option threshold must be a number from -1 to 1"),
        ("'products', 'name', prompt := 'is {c}?'", "refers to {c}"),
        ("'has', 'name'", "has a column conflicts of its own"),
    ],
)
def test_what_is_wrong_is_said(con: quackllm.Connection, arguments: str, message: str) -> None:
    con.execute("CREATE TABLE has AS SELECT 'x' AS name, 1 AS conflicts")
    with pytest.raises((BindError, duckdb.Error), match=message):
        con.execute(f"FROM llm_dedup({arguments})")


def test_explain_counts_without_a_call() -> None:
    con, fake = connect()
    plan = con.execute("EXPLAIN FROM llm_dedup('products', 'name', k := 2)").fetchall()[0][1]
    assert fake.calls == 0
    assert "LLM_EMBED in LLM_DEDUP" in plan
    assert "LLM_FILTER in LLM_DEDUP" in plan


@pytest.mark.parametrize("function", [DEDUP, DEDUP_PAIRS], ids=lambda each: each.name)
def test_the_page_tells_every_option_and_column(
    function: TableFunction, con: quackllm.Connection
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "deduplication.md").read_text(encoding="utf-8")
    for option in function.options:
        default = "" if option.default is None else f"`{option.default!r}`"
        assert f"| `{option.name}` | {default} | ".replace("|  |", "| |") in page
    added = con.execute(f"DESCRIBE FROM {function.name}('products', 'name')").fetchall()
    for name, type_, *_ in added:
        assert name in ("id", "name", "price") or (f"`{name}`" in page and type_ in page)


def test_a_refusing_server_stops_the_statement() -> None:
    con, _ = connect(faults=(Fault(error=RequestRefused),))
    with pytest.raises(RequestRefused):
        con.execute("FROM llm_dedup('products', 'name')")
