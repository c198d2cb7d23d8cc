"""llm_search: exactly the rows that plain SQL finds by comparing all."""

from __future__ import annotations

import json
import threading
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Capabilities
from quackllm.engine.table_functions import search
from quackllm.errors import BudgetExceeded, ContextWindowExceeded, StatementCancelled
from quackllm.testing import FakeProvider, Fault
from quackllm.udfs.vectors import packed
from tests.engine.table_functions.conftest import TABLES

NEAREST = """
SELECT q.id, p.id FROM (SELECT id, LLM_EMBED(question) AS v FROM questions) q,
    (SELECT id, LLM_EMBED(body) AS v FROM passages) p WHERE q.v IS NOT NULL AND p.v IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY q.id ORDER BY
    array_cosine_similarity(q.v, p.v) DESC, p.id) <= 4 ORDER BY ALL
"""


def rows(con: Connection, sql: str, parameters: Any = None) -> list[Any]:
    found: list[Any] = con.execute(sql, parameters).fetchall()
    return found


def test_the_nearest_rows_are_those_that_sql_finds_by_comparing_all(con: Connection) -> None:
    found = rows(
        con,
        "SELECT q.id, p.id FROM questions q, "
        "llm_search('passages', 'body', q.question, k := 4, mode := 'vector') p ORDER BY ALL",
    )
    assert found == rows(con, NEAREST)


def test_all_questions_are_asked_at_once_and_equal_ones_once(
    con: Connection, fake: FakeProvider
) -> None:
    rows(con, "FROM questions q, llm_search('passages', 'body', q.question) p")
    texts = rows(
        con,
        "SELECT count(*) FROM (SELECT body FROM passages UNION SELECT question FROM questions) "
        "t(x) WHERE x IS NOT NULL",
    )
    assert fake.calls == texts[0][0]
    assert rows(con, "SELECT calls FROM llm_queries()")[0] == texts[0]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, rank FROM llm_search('passages', 'body', 'ducks', k := 3)",
        "WITH s AS (FROM llm_search('passages', 'body', 'ducks', k := 3)) SELECT id, rank FROM s",
        "SELECT s.id, s.rank FROM questions q JOIN llm_search('passages', 'body', 'ducks', k := 3)"
        " s ON q.id = 0",
        "SELECT id, rank FROM (FROM llm_search('main.passages', 'BODY', 'ducks', k := 3)) AS d",
        "WITH p AS (FROM passages) SELECT id, rank FROM llm_search('p', 'body', 'ducks', k := 3)",
        "SELECT a, b FROM llm_search('passages', 'body', 'ducks', k := 3) AS s(a, x, b)",
        "SELECT id, rank FROM llm_search('passages', 'body', (SELECT 'ducks'), k := 3)",
        "SELECT s.id, s.rank FROM (VALUES ('du')) t(x), LATERAL (SELECT * FROM "
        "llm_search('passages', 'body', x || 'cks', k := 3)) AS s",
        "SELECT id, rank FROM searched",
        "SELECT id, rank FROM find('ducks')",
    ],
)
def test_it_stands_wherever_a_table_may_stand(con: Connection, sql: str) -> None:
    con.execute(
        "CREATE VIEW searched AS FROM llm_search('passages', 'body', 'ducks', k := 3);"
        "CREATE MACRO find(q) AS TABLE FROM llm_search('passages', 'body', q, k := 3)"
    )
    expected = rows(
        con, "SELECT id, rank FROM llm_search('passages', 'body', $1, k := $2)", ["ducks", 3]
    )
    assert sorted(rows(con, sql), key=lambda row: row[1]) == expected  # a join has no order
    assert [rank for _, rank in expected] == [1, 2, 3]


@pytest.mark.parametrize(
    "joined",
    [
        "questions q, {} CROSS JOIN places s",
        "questions q, {} JOIN places s ON s.n = p.rank",
        "places s, questions q CROSS JOIN {}",
        "questions q CROSS JOIN ({} CROSS JOIN places s)",
        "questions q, ({} LEFT JOIN places s ON s.n = p.rank)",
        "questions q JOIN ({} LEFT JOIN places s ON s.n = p.rank) ON true",
    ],
)
@pytest.mark.parametrize("written", ["{}", "CREATE VIEW w AS {}", "CREATE MACRO w() AS TABLE {}"])
def test_the_joins_beside_one_question_for_each_row_stay(
    con: Connection, joined: str, written: str
) -> None:
    search = "llm_search('passages', 'body', q.question, k := 2, mode := 'lexical') p"
    con.execute("CREATE TABLE places AS SELECT * FROM range(3) r(n)")
    con.execute(f"CREATE TABLE found AS SELECT q.id AS asked, p.* FROM questions q, {search}")
    naive = joined.format("(SELECT * EXCLUDE (asked) FROM found WHERE asked = q.id) p")
    sql = "SELECT q.id, p.id, s.n FROM " + joined.format(search)
    if written != "{}":
        con.execute(written.format(sql))
        sql = "FROM w" if "VIEW" in written else "FROM w()"
    order = "ORDER BY ALL"
    assert rows(con, f"{sql} {order}") == rows(con, f"SELECT q.id, p.id, s.n FROM {naive} {order}")


def test_a_join_behind_a_lateral_query_beside_it_is_planned(con: Connection) -> None:
    """It once read as a query that DuckDB cannot parse, which aborted the transaction."""
    found = rows(
        con,
        "SELECT count(*) FROM (SELECT LLM('x', 1) AS a) s, LATERAL (SELECT 0 AS a, s.a AS b FROM "
        "(SELECT * FROM questions ORDER BY ALL LIMIT 2)) t JOIN (SELECT rank AS a FROM "
        "llm_search('passages', 'body', 'ducks', k := 1)) u USING (a)",
    )
    assert found == [(0,)]


def test_a_relation_reads_it_too(con: Connection, fake: FakeProvider) -> None:
    relation = con.sql("SELECT id FROM llm_search('passages', 'body', 'ducks', k := 3)")
    assert fake.calls == 0
    assert len(relation.filter("id > 0").fetchall()) == 3


def test_nothing_is_left_behind(con: Connection) -> None:
    con.execute("FROM questions q, llm_search('passages', 'body', q.question)").fetchall()
    con.execute("SELECT 1")
    left = "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '\\_\\_%' ESCAPE '\\'"
    assert rows(con, left) == [(0,)]


RAG = """
SELECT q.id, LLM('Answer {question} from {contexts}', q.question,
    {'contexts': list(p.body ORDER BY p.rank)}) AS answer
FROM questions q, llm_search('passages', 'body', q.question, k := 3, mode := 'lexical') p
GROUP BY q.id, q.question ORDER BY q.id
"""


def test_retrieval_and_answers_are_one_statement_with_the_naive_answers(con: Connection) -> None:
    planned = rows(con, RAG)
    con.execute(
        "CREATE TABLE found AS SELECT q.id AS asked, p.* FROM questions q, "
        "llm_search('passages', 'body', q.question, k := 3, mode := 'lexical') p"
    )
    naive = rows(
        con,
        "SELECT q.id, LLM('Answer {question} from {contexts}', q.question, {'contexts': "
        "(SELECT list(body ORDER BY rank) FROM found WHERE asked = q.id)}) FROM questions q "
        "WHERE EXISTS (FROM found WHERE asked = q.id) ORDER BY q.id",
    )
    assert planned == naive
    [asked, *_, again] = rows(con, "SELECT calls FROM llm_queries()")
    assert (asked, again) == ((3,), (0,))  # of seven questions three are distinct and no NULL


def test_explain_counts_without_asking(con: Connection, fake: FakeProvider) -> None:
    sql = RAG.replace("mode := 'lexical'", "rerank := 5")
    plan = json.loads(rows(con, f"EXPLAIN (FORMAT JSON) {sql}")[0][1])
    stages = [(each["stage"], each.get("function"), each.get("number")) for each in plan["stages"]]
    assert stages[:4] == [
        ("table function", "LLM_SEARCH", None),
        ("model", "LLM_EMBED", 1),
        ("model", "LLM_SCORE", 2),
        ("model", "LLM", 3),
    ]
    expected = [each["expected"]["calls"] for each in plan["stages"][1:4]]
    assert expected == [55 + 3, 3 * 5, 3]
    assert fake.calls == 0
    ran = json.loads(rows(con, f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")[0][1])
    actual = [each["actual"]["calls"] for each in ran["stages"][1:4]]
    assert (actual, fake.calls) == (expected, sum(expected))


def test_a_budget_is_refused_before_the_first_call(con: Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_max_calls = 50")
    with pytest.raises(BudgetExceeded, match="takes at least 56 calls"):
        con.execute("FROM llm_search('passages', 'body', 'ducks')")
    assert fake.calls == 0
    assert rows(
        con, "SELECT count(*) FROM llm_search('passages', 'body', 'ducks', mode := 'lexical')"
    ) == [(10,)]


def test_the_first_rows_are_put_in_order_by_scores_and_the_rest_follows(con: Connection) -> None:
    plain = "SELECT id FROM llm_search('passages', 'body', 'ducks', k := 9"
    first = [id_ for (id_,) in rows(con, f"{plain})")]
    scores = dict(
        rows(
            con,
            "SELECT id, LLM_SCORE('fits {query} {text}?', {'query': 'ducks', 'text': body}) "
            "FROM passages",
        )
    )
    expected = sorted(first[:4], key=lambda id_: (-scores[id_], first.index(id_))) + first[4:]
    ranked = rows(
        con,
        f"{plain.replace('id', 'id, score', 1)}, rerank := 4, "
        "rerank_prompt := 'fits {query} {text}?')",
    )
    assert ranked == [(id_, scores[id_] if at < 4 else None) for at, id_ in enumerate(expected)]


def test_a_stored_vector_is_searched_as_the_text_is(con: Connection, fake: FakeProvider) -> None:
    con.execute("CREATE TABLE indexed AS SELECT *, LLM_EMBED(body) AS v FROM passages")
    before = fake.calls
    for sql in (
        "SELECT id FROM llm_search('{}', 'body', 'ducks', k := 7, mode := 'vector'{})",
        "SELECT q.id, s.id FROM questions q, "
        "llm_search('{}', 'body', q.question, k := 7, mode := 'vector'{}) s ORDER BY q.id, rank",
    ):
        found = rows(con, sql.format("indexed", ", vector := 'v'"))
        assert found and found == rows(con, sql.format("passages", ""))
    assert fake.calls == before + 4  # 'ducks' and three questions


INDEXED = """
CREATE TABLE indexed AS SELECT i AS id, CASE WHEN i % 7 <> 0 THEN 'text' END AS body,
    CAST(CASE i % 11 WHEN 0 THEN NULL WHEN 1 THEN [0, 0] WHEN 2 THEN [CAST('nan' AS FLOAT), 1]
         ELSE [1 + i % 5, i % 3] END AS FLOAT[2]) AS v
FROM range(90) r(i);
CREATE TABLE none AS FROM indexed LIMIT 0;
DELETE FROM indexed WHERE id BETWEEN 20 AND 40;
BEGIN;
INSERT INTO indexed VALUES (190, 'text', [3, 4]), (191, 'text', [3, 4]);
"""
BY_VECTOR = """
WITH t AS (FROM {table}) SELECT n, s.id, s.rank FROM (SELECT unnest(range($1)) AS n),
    llm_search('t', 'body', repeat('x', n), k := $2, mode := 'vector', vector := 'v') AS s
ORDER BY ALL
"""
COMPARED = """
SELECT n, id, row_number() OVER (PARTITION BY n ORDER BY
    round(array_cosine_similarity(v, CAST([3, 4 + n] AS FLOAT[2])), 5) DESC, id) AS rank
FROM (SELECT unnest(range($1)) AS n), (FROM {table} AS t WHERE body IS NOT NULL
    AND id % 11 NOT IN (0, 1, 2)) QUALIFY rank <= $2 ORDER BY ALL
"""


@pytest.mark.parametrize("rows_of_part", [1, 8192])
def test_stored_vectors_in_parts_are_all_compared_and_each_once(
    rows_of_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows were deleted, others are the transaction's own, some have no direction."""
    monkeypatch.setattr(search, "ROWS_OF_PART", rows_of_part)
    fake = FakeProvider(
        answer=lambda asked: packed([3, 4 + len(json.loads(asked.fields)["text"])]),
        capabilities=Capabilities(dimensions=2),
    )
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(f"SET threads = 4; {INDEXED}")
        for table in ("indexed", "(FROM indexed WHERE id > 50)", "none"):
            # One question is compared in DuckDB, four of them in NumPy.
            for given in ([1, 5], [1, 1000], [4, 5]):
                found = rows(con, BY_VECTOR.format(table=table), given)
                assert found == rows(con, COMPARED.format(table=table), given)
                assert bool(found) == (table != "none")
        direct = BY_VECTOR.replace("'t'", "'indexed'").replace("WITH t AS (FROM {table})", "")
        assert rows(con, direct, [1, 5]) == rows(con, COMPARED.format(table="indexed"), [1, 5])


def test_an_argument_that_searches_is_named_by_its_text_and_asked_once(
    con: Connection, fake: FakeProvider
) -> None:
    """Named by the table that its rows are made in, it would be a new question in each run."""
    sql = "SELECT LLM('p', (SELECT min(id) FROM llm_search('passages', 'body', 'a', k := 1)) + 1)"
    first = rows(con, sql)
    asked = fake.calls
    assert rows(con, sql) == first
    assert fake.calls == asked
    [shown] = [request.fields for request in fake.requests if request.instruction.startswith("p")]
    assert "llm_search(" in shown and "__llm" not in shown


def test_what_cannot_be_embedded_is_told_and_never_ranked() -> None:
    fault = Fault(error=ContextWindowExceeded, containing="Passage 7 ")
    with quackllm.connect(provider=FakeProvider(faults=[fault]), progress=False) as con:
        con.execute(TABLES)
        found = rows(
            con, "SELECT id FROM llm_search('passages', 'body', 'x', k := 99, mode := 'vector')"
        )
        assert len(found) == 54
        assert (7,) not in found
        assert rows(con, "SELECT function, preview LIKE '%Passage 7 %' FROM llm_errors()") == [
            ("llm_embed", True)
        ]


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("FROM llm_search('nothing', 'x', 'ducks')", 0),
        ("FROM llm_search('passages', 'body', 'ducks', k := 0)", 0),
        ("FROM llm_search('passages', 'body', NULL)", 0),
        ("FROM llm_search('passages', 'body', 'ducks', k := 1000, mode := 'vector')", 55),
        ("FROM llm_search('passages', 'body', 'nowhere', mode := 'lexical')", 0),
        ("FROM llm_search('passages', 'id', '17', mode := 'lexical')", 1),
        (
            "FROM questions q LEFT JOIN LATERAL llm_search('passages', 'body', question, k := 1) p "
            "ON true",
            7,
        ),
        (
            "FROM questions q, llm_search('passages', 'body', question, k := 1) p WHERE q.id < 2",
            2,
        ),
        ("FROM questions q WHERE EXISTS (FROM llm_search('passages', 'body', q.question) p)", 6),
    ],
)
def test_there_are_as_many_rows_as_there_should_be(con: Connection, sql: str, count: int) -> None:
    con.execute("CREATE TABLE nothing (x VARCHAR)")
    assert len(rows(con, sql)) == count


def test_only_questions_that_pass_the_conditions_are_embedded(
    con: Connection, fake: FakeProvider
) -> None:
    con.execute("CREATE TABLE indexed AS SELECT *, LLM_EMBED(body) AS v FROM passages")
    before = fake.calls
    rows(
        con,
        "FROM questions q, llm_search('indexed', 'body', question, vector := 'v') p "
        "WHERE q.id = 3 AND p.id > 3",
    )
    assert fake.calls == before + 1


def test_a_name_in_the_argument_is_never_a_column_of_the_table(con: Connection) -> None:
    con.execute("CREATE TABLE faq AS SELECT id AS k, body, 'x' AS question FROM passages")
    found = (
        "SELECT q.id, s.k FROM questions q, llm_search('faq', 'body', {}, k := 2) s ORDER BY ALL"
    )
    assert rows(con, found.format("question")) == rows(con, found.format("q.question")) != []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("'passages', 'bdy', 'x'", "column: passages has no column bdy, did you mean body?"),
        ("'passagez', 'body', 'x'", "Table with name passagez does not exist!"),
        ("'passages', 'body'", r"wrong number of arguments: LLM_SEARCH\(table, column, query\)"),
        ("'passages', 'body', 'x', kk := 3", "unknown option kk, did you mean k?"),
        ("'passages', 'body', 'x', k := -1", "option k must be a whole number from 0"),
        ("'passages', 'body', 'x', mode := 'fast'", "option mode must be 'hybrid' or"),
        ("'passages', 'body', 'x', vector := 'id'", "the column id is BIGINT, not FLOAT"),
        ("'short', 'body', 'x', vector := 'v'", "have 3 dimensions, and the model .* gives 16"),
        ("'passages', 7, 'x'", "column must be the name of a column in quotes, not 7"),
        ("'ranked', 'body', 'x'", "ranked has a column rank of its own"),
        ("'(SELECT * FROM t)', 'body', 'x'", r"name of a table, .* not a query: WITH found AS"),
        ("'numbered', 'body', 'x'", "numbered has a column rowid of its own"),
        ("q.question, 'body', 'x'", "table must be a constant"),
        ("'passages', 'body', nowhere", "nowhere is neither a constant nor made of columns"),
    ],
)
def test_errors_say_what_would_be_right(con: Connection, call: str, message: str) -> None:
    con.execute("CREATE TABLE ranked AS SELECT 1 AS rank, 'a' AS body")
    con.execute("CREATE TABLE numbered AS SELECT 7 AS RowId, 'a' AS body")
    con.execute("CREATE TABLE short AS SELECT 'a' AS body, CAST([1, 2, 3] AS FLOAT[3]) AS v")
    with pytest.raises(duckdb.Error, match=message):
        con.execute(f"FROM questions q, llm_search({call})")


def test_where_it_cannot_be_planned_it_is_an_error_and_no_rows(con: Connection) -> None:
    con.execute("PREPARE p AS FROM llm_search('passages', 'body', 'ducks')")
    with pytest.raises(duckdb.Error, match="CREATE TEMP TABLE found AS FROM LLM_SEARCH"):
        con.execute("EXECUTE p").fetchall()


def test_a_change_reads_it(con: Connection) -> None:
    con.execute(
        "UPDATE passages SET body = 'found' FROM "
        "llm_search('passages', 'body', 'ducks', k := 2, mode := 'lexical') s WHERE "
        "s.id = passages.id"
    )
    assert rows(con, "SELECT count(*) FROM passages WHERE body = 'found'") == [(2,)]
    con.execute(
        "COPY (SELECT id FROM llm_search('passages', 'body', 'rain', k := 2)) TO '/dev/null'"
    )


def test_an_interrupt_ends_it() -> None:
    with quackllm.connect(provider=FakeProvider(latency=0.5), progress=False) as con:
        con.execute(TABLES)
        con.execute("SET llm_concurrency = 1")
        timer = threading.Timer(0.7, con.interrupt)
        timer.start()
        with pytest.raises(StatementCancelled):
            con.execute("FROM llm_search('passages', 'body', 'ducks')")
        timer.join()
        assert rows(con, "SELECT count(*) FROM passages") == [(59,)]


def test_no_rows_wanted_means_no_calls(con: Connection, fake: FakeProvider) -> None:
    con.execute("SELECT * FROM llm_search('passages', 'body', 'ducks') LIMIT 0")
    assert [column[0] for column in con.description] == ["id", "body", "rank", "score"]
    assert fake.calls == 0


def test_it_sees_the_rows_of_its_transaction(con: Connection) -> None:
    zebra = "SELECT id FROM llm_search('passages', 'body', 'zebra', mode := 'lexical')"
    con.execute("BEGIN; INSERT INTO passages VALUES (99, 'a zebra')")
    assert rows(con, zebra) == [(99,)]
    with pytest.raises(duckdb.Error, match="no column nowhere"):
        con.execute("FROM llm_search('passages', 'nowhere', 'zebra')")
    assert rows(con, zebra) == [(99,)]
    con.execute("ROLLBACK")
    assert rows(con, zebra) == []


def test_a_variable_makes_the_constant_that_an_index_of_vectors_needs(con: Connection) -> None:
    """docs/search.md tells how `vss` is used; its rule is the form of the plan, checked here."""
    con.execute("CREATE TABLE indexed AS SELECT id, LLM_EMBED(body) AS vector FROM passages")
    con.execute("SET VARIABLE question = (SELECT LLM_EMBED('ducks'))")
    nearest = "FROM indexed ORDER BY array_cosine_distance(vector, getvariable('question')) LIMIT 3"
    plan = str(rows(con, f"EXPLAIN SELECT id {nearest}")[0][1])
    assert "array_cosine_distance" in plan
    assert "getvariable" not in plan
    assert rows(con, f"SELECT id {nearest}") == rows(
        con,
        "SELECT id FROM llm_search('indexed', 'id', 'ducks', vector := 'vector', k := 3, "
        "mode := 'vector') ORDER BY rank",
    )
