"""Joins and top-k, and the ways in which quackllm and LOTUS run them.

Smaller than where they come from, for machines without a GPU. Abt-Buy: products of one shop and
the same products of another, of which each pair may match. Reviews: SemBench's Q7 on movies,
all pairs of reviews of one film that disagree, here of two films. First reviews: those that
like a film most, by the scores that their critics gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from benchmarks.peers.exchange import Ask, Job, Row
from benchmarks.reorder.tables import data_folder

LONGEST_ANSWER = 12
FIRST = 5


@dataclass(frozen=True)
class Way:
    """One way to run a task. sql: the statement, for quackllm."""

    system: str
    name: str
    sql: str = ""


@dataclass(frozen=True)
class Quality:
    """How right a result is, each number from 0 to 1.

    Of a join: precision and recall of its pairs. Of a top-k: what share of the rows that came
    back have the k highest scores, ties counted; and their scores' sum by the highest possible.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of the two."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True)
class SetTask:
    """One task.

    rows, other: queries of its tables, with a text 'id'. truth: a query of the pairs of ids
    that belong together, or of ids and their scores. pairs: how many have to be told, or rows.
    """

    name: str
    asks: tuple[Ask, ...]
    rows: str
    truth: str
    ways: tuple[Way, ...]
    other: str | None = None
    on: str | None = None
    limit: int | None = None

    def job(self, way: Way, url: str, model: str, embedder: str) -> Job:
        """Return what a system is given."""
        return Job(
            name=self.name,
            rows=_rows(self.rows),
            asks=self.asks,
            then="ids" if self.other is None else "pairs",
            limit=self.limit,
            group=None,
            sql=way.sql,
            url=url,
            model=model,
            max_tokens=LONGEST_ANSWER,
            other=None if self.other is None else _rows(self.other),
            on=self.on,
            way=way.name,
            embedder=embedder,
        )

    def quality(self, value: Any) -> Quality:
        """Judge what a system returned (`Done.value`)."""
        truth = _fetch(self.truth)
        if self.other is None:
            return judge_first([str(row) for row in value], dict(truth))
        return judge_pairs({(str(a), str(b)) for a, b in value}, set(truth))


def judge_pairs(found: set[tuple[str, str]], truth: set[tuple[str, str]]) -> Quality:
    """Return precision and recall; nothing found has a precision of 0."""
    right = len(found & truth)
    return Quality(right / len(found) if found else 0.0, right / len(truth))


def judge_first(found: list[str], scores: dict[str, float], first: int = FIRST) -> Quality:
    """Judge the first rows by their scores; the least score of the true first counts whole."""
    best = sorted(scores.values(), reverse=True)[:first]
    given = [scores[row] for row in found]
    return Quality(sum(s >= best[-1] for s in given) / len(best), sum(given) / sum(best))


def pairs_of(task: SetTask) -> set[tuple[str, str]]:
    """Return the pairs of ids that belong together, of a join."""
    return set(_fetch(task.truth))


def _rows(query: str) -> list[Row]:
    with _data() as con:
        rows: list[Row] = con.sql(query).to_arrow_table().to_pylist()
    return rows


def _fetch(query: str) -> list[tuple[Any, ...]]:
    with _data() as con:
        return con.sql(query).fetchall()


def _data() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    for name in ("er_abt_buy_a", "er_abt_buy_b", "er_abt_buy_gt", "sembench_movie_reviews"):
        con.execute(f"CREATE VIEW {name} AS FROM '{data_folder()}/tables/{name}.parquet'")
    return con


# Products

SAME = "Are {x} and {y} the same product?"
BRAND = "lower(split_part(name, ' ', 1))"
ABT = f"""
SELECT id::VARCHAR AS id, name AS x, {BRAND} AS brand FROM er_abt_buy_a
ORDER BY hash(id) LIMIT {{n}}
"""
MATCHES = """
SELECT DISTINCT id_a::VARCHAR AS id, id_b::VARCHAR AS id2 FROM er_abt_buy_gt
WHERE id_a::VARCHAR IN (SELECT id FROM ({abt}))
"""
BUY = f"""
SELECT id::VARCHAR AS id, name AS y, {BRAND} AS brand FROM er_abt_buy_b
WHERE id::VARCHAR IN (SELECT id2 FROM ({{matches}})) ORDER BY hash(id)
"""


BLOCKED = ", strategy := 'block'"
THREE = f"{BLOCKED}, candidates := 3"


def _joined(on: str = "", more: str = "") -> str:
    asked = f"LLM_FILTER('{SAME}', {{'x': t.x, 'y': o.y}}{more})"
    return f"SELECT t.id, o.id FROM t JOIN o ON {on}{asked}"


def _products(name: str, n: int, on: str | None, ways: tuple[Way, ...]) -> SetTask:
    """Join n products of one shop with those of the other that match one of them."""
    abt = ABT.format(n=n)
    matches = MATCHES.format(abt=abt)
    buy = BUY.format(matches=matches)
    alike = "" if on is None else f" AND a.{on} = b.{on}"
    truth = (
        f"SELECT m.id, m.id2 FROM ({matches}) AS m JOIN ({abt}) AS a ON a.id = m.id "
        f"JOIN ({buy}) AS b ON b.id = m.id2{alike}"
    )
    return SetTask(name, (Ask("join", SAME, ("x", "y")),), abt, truth, ways, buy, on)


# Reviews

OPPOSITE = "Do the reviews {x} and {y} express opposite sentiments, one positive and one negative?"
POSITIVE = "Is the movie review clearly positive?"
REVIEWS = """
SELECT reviewId AS id, any_value(reviewText) AS {text}, movie FROM
    (SELECT reviewId::VARCHAR AS reviewId, reviewText, id AS movie FROM sembench_movie_reviews
     WHERE id IN ('taken_3', 'ant_man_and_the_wasp_quantumania') AND length(reviewText) > 0)
GROUP BY reviewId, movie
QUALIFY row_number() OVER (PARTITION BY movie ORDER BY hash(reviewId)) <= {n} ORDER BY hash(id)
"""
OPPOSED = """
SELECT a.id, b.id FROM ({rows}) AS a JOIN ({rows}) AS b ON a.movie = b.movie
JOIN (SELECT reviewId::VARCHAR AS id, any_value(scoreSentiment) AS s FROM sembench_movie_reviews
      GROUP BY ALL) AS sa ON sa.id = a.id
JOIN (SELECT reviewId::VARCHAR AS id, any_value(scoreSentiment) AS s FROM sembench_movie_reviews
      GROUP BY ALL) AS sb ON sb.id = b.id WHERE sa.s <> sb.s
"""
OF_REVIEWS = "SELECT a.id, b.id FROM t AS a JOIN t AS b ON a.movie = b.movie AND a.id <> b.id AND "
CLASS = "LLM_CLASSIFY({}, ['positive', 'negative'])"


def _reviews(name: str, n: int) -> SetTask:
    """Pair n reviews of each of two films with those of the same film that disagree."""
    rows = REVIEWS.format(text="x", n=n)
    asks = (Ask("join", OPPOSITE, ("x", "y")), Ask("filter", POSITIVE, ("x",)))
    pairs = OF_REVIEWS + f"LLM_FILTER('{OPPOSITE}', {{'x': a.x, 'y': b.x}})"
    classes = OF_REVIEWS + f"{CLASS.format('a.x')} <> {CLASS.format('b.x')}"
    ways = (
        Way("quackllm", "JOIN ON LLM_FILTER", pairs),
        Way("lotus", "merge, then sem_filter"),
        Way("quackllm", "LLM_CLASSIFY of each row", classes),
        Way("lotus", "sem_filter of each row, then merge"),
    )
    other = REVIEWS.format(text="y", n=n)
    return SetTask(name, asks, rows, OPPOSED.format(rows=rows), ways, other, "movie")


# First reviews

LIKES = "Which review likes the movie more?"
SCORED = """
SELECT reviewId::VARCHAR AS id, any_value(reviewText) AS review,
    any_value(try_cast(split_part(originalScore, '/', 1) AS DOUBLE)) AS score
FROM sembench_movie_reviews
WHERE id = 'ant_man_and_the_wasp_quantumania' AND length(reviewText) > 0
GROUP BY reviewId HAVING score IS NOT NULL ORDER BY hash(reviewId) LIMIT {n}
"""
RANKED = f"SELECT id FROM t ORDER BY LLM_RANK('{LIKES}', review) LIMIT {FIRST}"
RATED = (
    "SELECT id FROM t ORDER BY LLM_SCORE('How much does the reviewer like the movie?', review) "
    f"DESC LIMIT {FIRST}"
)


def _first(n: int, *methods: str) -> SetTask:
    """Find the first of n reviews."""
    ways = (
        Way("quackllm", "LLM_RANK", RANKED),
        *(Way("lotus", f"sem_topk {method}") for method in methods),
        Way("quackllm", "LLM_SCORE", RATED),
    )
    rows = f"SELECT id, review FROM ({SCORED.format(n=n)})"
    truth = f"SELECT id, score FROM ({SCORED.format(n=n)})"
    asks = (Ask("rank", LIKES, ("review",)),)
    return SetTask(f"first {FIRST} of {n} reviews", asks, rows, truth, ways, limit=FIRST)


def set_tasks() -> tuple[SetTask, ...]:
    """Return all of them."""
    return (
        _products("join products", 20, None, (
            Way("quackllm", "JOIN ON LLM_FILTER", _joined()),
            Way("lotus", "sem_join"),
            Way("quackllm", "the same, strategy := 'block'", _joined(more=BLOCKED)),
            Way("quackllm", "the same, candidates := 3", _joined(more=THREE)),
            Way("lotus", "sem_join, cascade"),
        )),
        _products("join products of one brand", 60, "brand", (
            Way("quackllm", "JOIN ON LLM_FILTER", _joined("t.brand = o.brand AND ")),
            Way("lotus", "merge, then sem_filter"),
        )),
        _reviews("join opposed reviews", 12),
        _first(20, "quick", "quick-sem", "heap", "naive"),
        _first(60, "quick", "quick-sem", "heap"),
    )  # fmt: skip
