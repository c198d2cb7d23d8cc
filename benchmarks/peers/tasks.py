"""The tasks: the sixteen queries of the LLM-SQL paper and SemBench's ten on movies.

Smaller than where they come from, for machines without a GPU. SemBench: "SemBench: A
Benchmark for Semantic Query Processing Engines", scenario 'movie'; its texts and truths
are in the data folder (`sembench_queries`). Q5 to Q7 pair the reviews of one movie: every
system gets the pairs as a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import duckdb
import pyarrow as pa

from benchmarks.llm_sql.queries import QUERIES, Query
from benchmarks.peers import judge
from benchmarks.peers.exchange import Ask, Job
from benchmarks.reorder.tables import data_folder
from quackllm.udfs.base import Function
from quackllm.udfs.filter import FILTER
from quackllm.udfs.score import SCORE

LONGEST_ANSWER = 12
LLM_SQL_SHARE = 0.3


@dataclass(frozen=True)
class Task:
    """One task.

    table: its rows, a query for `{rows}` of them with a column `id`. statement: what
    quackllm is given, over the table `t`. quality: how right an answer is, from 0 to 1.
    Everything else is as in `Job`.
    """

    name: str
    table: str
    rows: int
    asks: tuple[Ask, ...]
    statement: str
    then: str
    quality: judge.Quality
    limit: int | None = None
    group: str | None = None

    def rows_of(self) -> pa.Table:
        """Return the rows with all their columns, as a table that is always the same."""
        folder = data_folder()
        with duckdb.connect() as con:
            con.execute(
                (folder / "views.sql").read_text().replace("'tables/", f"'{folder}/tables/")
            )
            con.execute(
                f"CREATE VIEW reviews AS FROM '{folder}/tables/sembench_movie_reviews.parquet'"
            )
            con.execute(
                f"CREATE VIEW movies AS FROM '{folder}/tables/sembench_movie_movies.parquet'"
            )
            return con.sql(self.table.format(rows=self.rows)).to_arrow_table()

    def job(self, table: pa.Table, url: str, model: str) -> Job:
        """Return what a system is given: the columns that the task is about, as texts."""
        names = {"id", *(name for ask in self.asks for name in ask.fields)}
        if self.group is not None:
            names.add(self.group)
        with duckdb.connect() as con:
            con.register("t", table)
            shown = ", ".join(f'"{name}"::VARCHAR AS "{name}"' for name in sorted(names))
            rows = con.sql(f"SELECT {shown} FROM t").to_arrow_table().to_pylist()
        return Job(
            name=self.name,
            rows=rows,
            asks=self.asks,
            then=self.then,
            limit=self.limit,
            group=self.group,
            sql=self.statement,
            url=url,
            model=model,
            max_tokens=LONGEST_ANSWER,
        )


def _kind(function: Function) -> str:
    return {FILTER.name: "filter", SCORE.name: "score"}.get(function.name, "map")


def _of_llm_sql(query: Query) -> Task:
    asks = tuple(
        Ask(_kind(ask.function), ask.prompt, tuple(name.strip('"') for name in ask.fields))
        for ask in query.asks
    )
    group, then = None, "ids" if query.kind == "filter" else "answers"
    quality: judge.Quality = judge.unknown
    if query.right is not None:
        then, quality = "ids", partial(judge.decided, condition=query.right)
    if query.kind == "aggregation":
        then = "means"
        group = "movie_id" if "movie" in query.name else "product_name"
        truth = "(label_fresh = 'fresh')::INTEGER" if group == "movie_id" else "label_rating"
        quality = partial(judge.ranked, by=group, truth_sql=f"avg({truth})")
    if query.name == "retrieval squad":
        quality = partial(judge.contained, answers="label_answers")
    return Task(
        name=query.name,
        table=query.table,
        rows=round(LLM_SQL_SHARE * query.rows),
        asks=asks,
        statement=query.statement.format(*(ask.sql() for ask in query.asks)),
        then=then,
        quality=quality,
        group=group,
    )


ANY_MOVIE = """
SELECT (row_number() OVER (ORDER BY hash(reviewId, id, creationDate)))::VARCHAR AS id,
    reviews.* EXCLUDE (id), reviews.id AS movie
FROM reviews WHERE length(reviewText) > 0 ORDER BY hash(reviewId, 3) LIMIT {rows}
"""
TAKEN = """
SELECT row_number() OVER (ORDER BY hash(reviewId))::VARCHAR AS id, * EXCLUDE (id)
FROM reviews WHERE id = 'taken_3' ORDER BY hash(reviewId, 3) LIMIT {rows}
"""
ANT_MAN = TAKEN.replace("taken_3", "ant_man_and_the_wasp_quantumania")
PAIRS = """
WITH r AS (SELECT DISTINCT reviewId, reviewText, scoreSentiment FROM reviews
           WHERE id = 'ant_man_and_the_wasp_quantumania' ORDER BY hash(reviewId) LIMIT 12)
SELECT a.reviewId || ' ' || b.reviewId AS id, a.reviewText AS review1, b.reviewText AS review2,
    a.scoreSentiment = b.scoreSentiment AS label_same
FROM r AS a JOIN r AS b ON a.reviewId <> b.reviewId
ORDER BY hash(a.reviewId, b.reviewId) LIMIT {rows}
"""
RANKED_MOVIES = """
SELECT reviewId || ' ' || row_number() OVER (ORDER BY hash(reviewId, creationDate)) AS id,
    reviewText, reviews.id AS movie, audienceScore AS label_score
FROM reviews JOIN movies ON movies.id = reviews.id
WHERE reviews.id IN (SELECT id FROM reviews GROUP BY id HAVING count(*) >= 30
                     ORDER BY hash(id) LIMIT 8)
ORDER BY hash(reviewId, 3) LIMIT {rows}
"""
REVIEW, PAIR = ("reviewText",), ("review1", "review2")
POSITIVE = "Is the movie review clearly positive?"
SAME = "Do the two movie reviews express the same sentiment, both positive or both negative?"
OPPOSITE = "Do the two movie reviews express opposite sentiments, one positive and one negative?"
LIKED = "How much did the reviewer like the movie?"
IS_POSITIVE = f"LLM_FILTER('{POSITIVE}', reviewText)"
SCORE_SQL = f"LLM_SCORE('{LIKED}', reviewText, min := 1, max := 5)"
TRULY_POSITIVE = "scoreSentiment = 'POSITIVE'"
GIVEN_SCORE = "try_cast(split_part(originalScore, '/', 1) AS FLOAT)"


def _sentiment(name: str, table: str, rows: int, select: str, **more: object) -> Task:
    """A query about whether reviews are positive."""
    how: dict[str, object] = {
        "then": "ids",
        "quality": partial(judge.precise, condition=TRULY_POSITIVE),
    } | more
    asked = (Ask("filter", POSITIVE, REVIEW),)
    return Task(name, table, rows, asked, select.format(IS_POSITIVE), **how)  # type: ignore[arg-type]


def _pairs(name: str, prompt: str, same: str, limit: int | None) -> Task:
    """A query about pairs of reviews."""
    more = f" LIMIT {limit}" if limit else ""
    return Task(
        name=name,
        table=PAIRS,
        rows=132,
        asks=(Ask("filter", prompt, PAIR),),
        statement=f"SELECT id FROM t WHERE LLM_FILTER('{prompt}', review1, review2){more}",
        then="ids",
        quality=partial(judge.precise if limit else judge.decided, condition=same),
        limit=limit,
    )


def _sembench() -> tuple[Task, ...]:
    counted = partial(judge.counted, condition=TRULY_POSITIVE)
    shares = partial(judge.counted, condition=TRULY_POSITIVE, share=True)
    score = (Ask("score", LIKED, REVIEW),)
    return (
        _sentiment("SemBench Q1", ANY_MOVIE, 300, "SELECT id FROM t WHERE {} LIMIT 5", limit=5),
        _sentiment("SemBench Q2", TAKEN, 120, "SELECT id FROM t WHERE {} LIMIT 5", limit=5),
        _sentiment("SemBench Q3", TAKEN, 120, "SELECT count(*) FROM t WHERE {}",
                   then="count", quality=counted),
        _sentiment("SemBench Q4", TAKEN, 120,
                   "SELECT count(*) FILTER (WHERE {}) / count(*) FROM t",
                   then="ratio", quality=shares),
        _pairs("SemBench Q5", SAME, "label_same", 10),
        _pairs("SemBench Q6", OPPOSITE, "NOT label_same", 10),
        _pairs("SemBench Q7", OPPOSITE, "NOT label_same", None),
        _sentiment("SemBench Q8", TAKEN, 120,
                   "SELECT CASE WHEN {} THEN 'POSITIVE' ELSE 'NEGATIVE' END AS sentiment, "
                   "count(*) FROM t GROUP BY sentiment", then="counts", quality=counted),
        Task("SemBench Q9", ANT_MAN, 160, score, f"SELECT id, {SCORE_SQL} FROM t", "answers",
             partial(judge.ranked, by="id", truth_sql=f"avg({GIVEN_SCORE})")),
        Task("SemBench Q10", RANKED_MOVIES, 160, score,
             f"SELECT movie, avg({SCORE_SQL}) FROM t GROUP BY movie", "means",
             partial(judge.ranked, by="movie", truth_sql="avg(label_score)"), group="movie"),
    )  # fmt: skip


def tasks() -> tuple[Task, ...]:
    """Return all of them."""
    paper = (query for query in QUERIES if not query.name.startswith("control"))
    return (*map(_of_llm_sql, paper), *_sembench())
