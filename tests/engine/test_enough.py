"""Promise 2 where asking stops early: the rows of the naive plan, whatever was left unasked.

The data have NULLs, duplicates and ties; scores are one of three values, so that bounds are
reached; some calls fail, and a failed call decides nothing.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

import quackllm
from quackllm.engine.early_stop import FIRST_BATCH, Batches
from quackllm.engine.providers.base import Request
from quackllm.errors import InvalidAnswer
from quackllm.testing import Fault
from quackllm.testing.fake_provider import FakeProvider, deterministic_answer
from quackllm.testing.rules import question_hash
from quackllm.udfs.base import Number
from tests.engine.conftest import Pair, close_pair, open_pair

TABLES = """
CREATE TABLE t AS SELECT i, CASE WHEN i % 17 = 0 THEN NULL ELSE 'a' || (hash(i) % 120) END AS x,
    'b' || (hash(i + 1) % 40) AS z, nullif((hash(i * 7) % 30)::INTEGER, 29) AS y
    FROM range(500) r(i);
CREATE TABLE u AS SELECT nullif(i, 11) AS k, 'c' || (i % 25) AS w, i % 7 AS g FROM range(60) r(i);
"""

FEWER = [
    # EXISTS
    "SELECT i FROM t WHERE EXISTS (SELECT 1 FROM u WHERE LLM_FILTER('q', w))",
    "SELECT k FROM u WHERE NOT EXISTS (SELECT * FROM t WHERE LLM_FILTER('q', x) AND y > 20)",
    "SELECT EXISTS (SELECT 1 FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z)) AS e",
    # sets
    "SELECT k FROM u WHERE k IN (SELECT y FROM t WHERE LLM_FILTER('q', x))",
    "SELECT k FROM u WHERE k NOT IN (SELECT y FROM t WHERE LLM_FILTER('q', x))",
    "SELECT k FROM u WHERE k NOT IN (SELECT y FROM t WHERE y IS NOT NULL AND LLM_FILTER('q', x))",
    "SELECT k, k > ALL (SELECT y FROM t WHERE LLM_FILTER('q', x)) AS a, "
    "k = ANY (SELECT y FROM t WHERE LLM_FILTER('q', x)) AS b FROM u",
    "SELECT DISTINCT y FROM t WHERE LLM_FILTER('q', x)",
    "SELECT DISTINCT y FROM t WHERE LLM_FILTER('q', x) IS NULL",
    "SELECT DISTINCT y FROM t WHERE NOT LLM_FILTER('q', x) AND LLM_FILTER('p', z) ORDER BY y",
    "SELECT y, i % 3 AS m FROM t WHERE LLM_FILTER('q', x) OR LLM_FILTER('p', z) GROUP BY ALL",
    "SELECT y FROM t WHERE LLM_FILTER('q', x) GROUP BY y HAVING y > 10",
    "SELECT y FROM t WHERE LLM_FILTER('q', x) UNION SELECT k FROM u WHERE LLM_FILTER('q', w)",
    "SELECT k FROM u EXCEPT SELECT y FROM t WHERE LLM_FILTER('q', x)",
    "SELECT u.k FROM u SEMI JOIN (SELECT y FROM t WHERE LLM_FILTER('q', x)) d ON d.y = u.k",
    # correlated by equalities
    "SELECT k FROM u WHERE EXISTS (SELECT 1 FROM t WHERE u.k = t.y AND LLM_FILTER('q', x))",
    "SELECT k FROM u WHERE NOT EXISTS (SELECT 1 FROM t WHERE u.k = t.y AND LLM_FILTER('q', x))",
    "SELECT k, EXISTS (SELECT 1 FROM t WHERE t.y = k AND LLM_FILTER('q', x) AND i < 200) AS e "
    "FROM u",
    "SELECT k FROM u WHERE g > 2 AND (w = 'c3' OR NOT EXISTS (SELECT 1 FROM t WHERE t.y = u.k "
    "AND t.i % 7 = u.g AND LLM_FILTER('q', x)))",
    # MIN and MAX
    "SELECT max(LLM_SCORE('s', x)) AS m FROM t",
    "SELECT min(LLM_SCORE('s', x)) + 1 AS m FROM t WHERE LLM_FILTER('p', z)",
    "SELECT y, max(LLM_SCORE('s', x)) AS m FROM t GROUP BY y ORDER BY m DESC, y",
    "SELECT y, min(LLM_SCORE('s', x, min := 1, max := 5)) AS m FROM t WHERE LLM_FILTER('p', z) "
    "GROUP BY y HAVING m < 3 ORDER BY y",
    "SELECT max(y) AS m FROM t WHERE LLM_FILTER('p', x)",
    "SELECT min(y) || '!' AS m FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z)",
    # the best by score, and LIMIT
    "SELECT LLM('w', x, z) AS l, -i AS i FROM t WHERE LLM_FILTER('p', z) ORDER BY i LIMIT 4",
    "SELECT i, LLM_SCORE('s', x) AS s FROM t ORDER BY s DESC, y, i LIMIT 7",
    "SELECT i FROM t WHERE LLM_FILTER('p', z) ORDER BY LLM_SCORE('s', x), i DESC LIMIT 7 OFFSET 2",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z) ORDER BY y, i LIMIT 9",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) OR LLM_FILTER('q', z) IS NULL "
    "ORDER BY y DESC, i LIMIT 9",
    "SELECT t.i, u.k FROM t JOIN u ON t.y = u.k WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', w) "
    "ORDER BY t.i, u.k LIMIT 5 OFFSET 3",
    "SELECT * FROM t WHERE LLM_FILTER('p', x) ORDER BY ALL DESC NULLS FIRST LIMIT 4",
    "SELECT y, t.* EXCLUDE (y, z) FROM t WHERE LLM_FILTER('p', x) ORDER BY ALL LIMIT 4 OFFSET 1",
]
"""Ask less than the naive plan and give the same rows in the same order."""

AS_MANY = [
    "SELECT y, LLM('w', x, z) AS l, i FROM t ORDER BY 3 LIMIT 4",
    "SELECT LLM('w', x, z) AS l, i AS j FROM t ORDER BY j DESC LIMIT 4",
    "SELECT i, LLM('why', x) AS why, LLM_SCORE('s', z) AS s FROM t ORDER BY s DESC, i LIMIT 5",
    "SELECT LLM_SCORE('s', z) + 1 AS s, LLM('why', x, LLM_SCORE('s', z)) AS why FROM t "
    "WHERE LLM_FILTER('p', z) ORDER BY 1 DESC, i LIMIT 5 OFFSET 2",
    "SELECT DISTINCT y FROM t WHERE LLM_FILTER('q', x) LIMIT 1000",
    "SELECT DISTINCT y, z FROM t WHERE LLM_FILTER('q', x)",
    "SELECT y, count(*) FROM t WHERE LLM_FILTER('q', x) GROUP BY y",
    "SELECT max(LLM_SCORE('s', x)) AS a, min(LLM_SCORE('s', x)) AS b FROM t",
    "SELECT max(LLM_SCORE('s', x, default_value := 9)) AS a FROM t",
    "SELECT max(LLM_SCORE('s', x)) FILTER (WHERE y > 3) AS a FROM t",
    "SELECT max(y) AS a, count(*) AS n FROM t WHERE LLM_FILTER('p', x)",
    "SELECT max(DISTINCT y) AS a FROM t WHERE LLM_FILTER('p', x)",
    "SELECT min(z) AS a FROM t WHERE LLM_FILTER('p', x)",
    "SELECT max([y, i]) AS a FROM t WHERE LLM_FILTER('p', x)",
    "SELECT i FROM t ORDER BY LLM_SCORE('s', x) DESC NULLS FIRST, i LIMIT 7",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) ORDER BY i LIMIT 10 OFFSET 5000",
    "SELECT k FROM u EXCEPT ALL SELECT y FROM t WHERE LLM_FILTER('q', x)",
    "SELECT count(*) FROM (SELECT y FROM t WHERE LLM_FILTER('q', x))",
    "WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT count(*) FROM good LIMIT 10",
    "WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT i FROM good ORDER BY i LIMIT 3",
    "SELECT count(*) FROM (WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT u.k "
    "FROM u ANTI JOIN good ON good.y = u.k LIMIT 1000)",
    "SELECT count(*) FROM (WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT u.k "
    "FROM u LEFT JOIN good ON good.y = u.k LIMIT 20)",
    "SELECT count(*) FROM (WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT a.i "
    "FROM good a JOIN good b ON a.i = b.i LIMIT 10)",
]
"""Where every answer counts, every one is asked for."""


def answer(request: Request) -> str:
    """Scores are the lowest, the middle or the highest; filters as the fake answers them."""
    if isinstance(form := request.answer, Number):
        value = [form.low, (form.low + form.high) / 2, form.high]
        return json.dumps(value[question_hash(request, "score") % 3])
    return deterministic_answer(request)


def open_with(faults: bool) -> Pair:
    """Both plans over a fake of which every eighth call fails, if it is to."""
    pair = open_pair(TABLES)
    for fake in (pair.planned_fake, pair.naive_fake):
        rules = (Fault(rate=0.125, error=InvalidAnswer),) if faults else ()
        fake.__init__(answer=answer, faults=rules)  # type: ignore[misc]
    return pair


@pytest.mark.parametrize("sql", FEWER + AS_MANY)
def test_rows_are_those_of_the_naive_plan(sql: str) -> None:
    pair = open_with(faults=True)
    try:
        rows, types = pair.run_planned(sql)
        naive_rows, naive_types = pair.run_naive(sql)
        assert types == naive_types
        assert Counter(map(repr, rows)) == Counter(map(repr, naive_rows))
        if "ORDER BY" in sql:
            assert rows == naive_rows
        assert pair.planned_fake.calls <= pair.naive_fake.calls
        if sql in FEWER:
            assert pair.planned_fake.calls < pair.naive_fake.calls
        asked = [question_hash(request, "once") for request in pair.planned_fake.requests]
        failed = sum(pair.planned.llm_engine.history[-1].failures.values())
        assert len(asked) - len(set(asked)) <= failed, "asked twice, and not since a call failed"
    finally:
        close_pair(pair)


ANY_ROWS = [
    "SELECT x AS v FROM t WHERE LLM_FILTER('p', x) UNION ALL "
    "SELECT w FROM u WHERE LLM_FILTER('q', w)",
    "SELECT x AS v FROM t WHERE LLM_FILTER('p', x) UNION ALL SELECT w FROM u",
    "SELECT t.i FROM t JOIN u ON t.y = u.k WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', w)",
    "SELECT i FROM t WHERE LLM_FILTER('p', x) IS NULL OR LLM_FILTER('q', z) IS NULL",
    "SELECT LLM('w', x) AS l FROM t UNION ALL SELECT LLM('v', w) FROM u",
    "WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT good.i, u.k FROM good "
    "JOIN u ON good.y = u.k",
    "WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)), g AS (SELECT i, y FROM good "
    "WHERE i > 3) SELECT g.i, u.k FROM u, g WHERE g.y = u.k",
    "SELECT i FROM (SELECT * FROM t WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', z)) d "
    "WHERE y > 10",
    "WITH good AS (SELECT * FROM t WHERE LLM_FILTER('p', x)) SELECT good.i, "
    "LLM('w', good.z, u.w) FROM good LEFT JOIN u ON good.y = u.k",
]
"""Of which LIMIT may choose the rows."""


@pytest.mark.parametrize("limit", ["LIMIT 7 OFFSET 3", "LIMIT 5 OFFSET 100000"])
@pytest.mark.parametrize("sql", ANY_ROWS)
def test_limit_chooses_among_the_rows_of_the_naive_plan(sql: str, limit: str) -> None:
    pair = open_with(faults=True)
    try:
        rows, _ = pair.run_planned(f"{sql} {limit}")
        everything, _ = pair.run_naive(sql)
        asked = pair.naive_fake.calls
        wanted = 0 if "100000" in limit else min(int(limit.split()[1]), len(everything))
        assert len(rows) == wanted
        assert not Counter(map(repr, rows)) - Counter(map(repr, everything))
        assert pair.planned_fake.calls <= asked
        if wanted:
            assert pair.planned_fake.calls < asked
    finally:
        close_pair(pair)


def test_an_operand_behind_enough_rows_asks_nothing() -> None:
    pair = open_with(faults=False)
    try:
        pair.run_planned(f"{ANY_ROWS[0]} LIMIT 5")
        assert not any("q" in request.instruction.split() for request in pair.planned_fake.requests)
        assert pair.planned_fake.calls == FIRST_BATCH
        pair.run_planned(f"{ANY_ROWS[1]} LIMIT 5")
        assert pair.planned_fake.calls == FIRST_BATCH, "rows that need no answer are enough"
    finally:
        close_pair(pair)


def test_remembered_answers_are_used_before_anything_is_asked() -> None:
    fake = FakeProvider(answer=answer)
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        con.execute("SELECT i FROM t WHERE i > 480 AND LLM_FILTER('p', x)").fetchall()
        before = fake.calls
        assert len(con.execute("SELECT i FROM t WHERE LLM_FILTER('p', x) LIMIT 4").fetchall()) == 4
        assert fake.calls == before


def asked_for_ten(seed: int, sql: str) -> tuple[Counter[str], list[str]]:
    """Calls by prompt until ten rows are found, and the requests of 'rare' in their order."""

    def chosen(request: Request) -> str:
        share = 0.1 if "rare" in request.instruction else 0.9
        return "true" if question_hash(request, f"seed {seed}") / 2**64 < share else "false"

    fake = FakeProvider(answer=chosen, keep=10_000)
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(
            "CREATE TABLE many AS SELECT i, 'a' || i AS x, 'b' || i AS z, "
            "'c' || i || repeat(' and more', 50) AS long FROM range(4000) r(i)"
        )
        assert len(con.execute(sql).fetchall()) == 10
    counts = Counter("rare" if "rare" in r.instruction else "common" for r in fake.requests)
    return counts, [chosen(r) for r in fake.requests if "rare" in r.instruction]


def test_limit_asks_little_more_than_one_by_one() -> None:
    """LIMIT 10 at 10 %: never twice the calls of a plan that asks one by one, in that order."""
    ours, one_by_one = [], []
    for seed in range(6):
        counts, answers = asked_for_ten(
            seed, "SELECT i FROM many WHERE LLM_FILTER('rare', x) LIMIT 10"
        )
        tenth = [place for place, said in enumerate(answers, 1) if said == "true"][9]
        ours.append(counts["rare"])
        one_by_one.append(tenth)
    assert all(a <= 2 * b for a, b in zip(ours, one_by_one, strict=True)), (ours, one_by_one)
    assert sum(ours) <= 1.3 * sum(one_by_one), (ours, one_by_one)


@pytest.mark.parametrize("written", [("rare", "common"), ("common", "rare")])
def test_of_two_conditions_the_second_is_asked_hardly_more_than_by_an_oracle(
    written: tuple[str, str],
) -> None:
    """The oracle knows the shares and asks row by row: 111 times rare, 11 times common.

    Where the order as written is the best, nothing is asked in vain; where it is the worst,
    a sample of five rows finds that out.
    """
    where = " AND ".join(
        f"LLM_FILTER('{word}', {column})" for word, column in zip(written, "zx", strict=True)
    )
    runs = [
        asked_for_ten(seed, f"SELECT i FROM many WHERE {where} LIMIT 10")[0] for seed in range(6)
    ]
    rare, common = (sum(run[word] for run in runs) / len(runs) for word in ("rare", "common"))
    assert rare <= 1.3 * 111, runs
    sampled = 0 if written[0] == "rare" else 5
    assert common <= 1.3 * 11 + sampled, runs


def test_the_expensive_condition_is_asked_hardly_more_than_by_an_oracle() -> None:
    """It is written first, and accepts most rows: it is only asked what the cheap one accepts."""
    where = "LLM_FILTER('common', long) AND LLM_FILTER('rare', z)"
    runs = [
        asked_for_ten(seed, f"SELECT i FROM many WHERE {where} LIMIT 10")[0] for seed in range(6)
    ]
    assert sum(run["common"] for run in runs) / len(runs) <= 1.3 * 11, runs


def test_batches_grow_with_what_is_missing() -> None:
    batches = Batches([1] * 1_000, wanted=10)
    assert batches.following(0) == (0, 16)
    assert batches.following(0) == (16, 32), "nothing found: twice as many"
    assert batches.following(2) == (48, 64), "two of 48 rows: at most twice as many"
    assert batches.following(9) == (112, 16), "one row missing, one found in twelve"
    assert not batches.exhausted
    later = Batches([1] * 50, wanted=3, least=1)
    assert later.following(0) == (0, 3), "of what was accepted before, as many as are missing"
    assert later.following(2) == (3, 2), "one missing, two found in three"
    rows = Batches([100, 50, 1, 1], wanted=10)
    assert rows.following(0) == (0, 16)
    assert rows.exhausted
