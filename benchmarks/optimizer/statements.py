"""Thirty statements over public tables, and for each the calls that it cannot do without.

An oracle is a query over the same tables that counts argument tuples, written with the
answers known. It is the fewest distinct tuples that decide the result among plans that
ask one question after another: for several filters, those of the best order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

POSITIVE = "LLM_FILTER('Is this review clearly positive?', reviewText)"
SAME = "LLM_FILTER('Do both reviews express the same sentiment?', r1.reviewText, r2.reviewText)"
OPPOSITE = "LLM_FILTER('Do the reviews express opposite sentiments?', r1.reviewText, r2.reviewText)"
PAIRS = (
    "reviews r1 JOIN reviews r2 ON r1.id = r2.id AND r1.reviewId <> r2.reviewId "
    "AND r1.id = 'ant_man_and_the_wasp_quantumania'"
)
ONE_MOVIE = "reviews WHERE id = 'taken_3'"
QUANTUMANIA = "reviews WHERE id = 'ant_man_and_the_wasp_quantumania'"
LIKED = "LLM_SCORE('How much did the reviewer like the film?', reviewText, min := 1, max := 5)"
RARE = "LLM_FILTER('Is a bag lost?', text)"
COMMON = "LLM_FILTER('Is the customer angry?', text)"
REASON = "LLM_CLASSIFY(text, ['delay', 'bag', 'staff', 'other'])"
KIND = "LLM_CLASSIFY(product_name, ['reader', 'tablet', 'speaker', 'other'])"
FAMILY = "LLM_FILTER('Is it for a family evening?', synopsis)"
HARSH = "LLM_FILTER('Is the critic harsh?', review)"
FILMS = "rt_movies m JOIN rt_reviews r ON m.movie_id = r.movie_id AND m.movie_id < 200"

SHARES = {
    "clearly positive": 0.12,
    "same sentiment": 0.6,
    "opposite sentiments": 0.4,
    "bag lost": 0.05,
    "customer angry": 0.6,
    "family evening": 0.3,
    "critic harsh": 0.5,
    "broken": 0.1,
}
"""Share of 'yes' among the fake's answers, by words of the question."""


@dataclass(frozen=True)
class Statement:
    """A statement, and the SQL of its oracle: one number."""

    name: str
    sql: str
    oracle: str


def everything(rows: str, *arguments: str) -> str:
    """Every distinct tuple of the rows, those that are NULL throughout excepted."""
    given = " OR ".join(f"a{i} IS NOT NULL" for i in range(len(arguments)))
    named = ", ".join(f"{argument} AS a{i}" for i, argument in enumerate(arguments))
    return f"SELECT count(*) FROM (SELECT DISTINCT {named} FROM {rows}) WHERE {given}"


def first(count: int, rows: str, condition: str, *arguments: str) -> str:
    """The fewest tuples that give `count` rows which pass; all when there are not as many."""
    keys = ", ".join(arguments)
    joined = f"{rows} {'AND' if ' WHERE ' in rows else 'WHERE'} {condition}"
    counted = f"SELECT count(*) AS n FROM {joined} GROUP BY {keys}"
    running = (
        f"SELECT sum(n) OVER (ORDER BY n DESC ROWS UNBOUNDED PRECEDING) - n AS b FROM ({counted})"
    )
    return (
        f"SELECT CASE WHEN (SELECT coalesce(sum(n), 0) FROM ({counted})) < {count} "
        f"THEN ({everything(rows, *arguments)}) "
        f"ELSE (SELECT count(*) FROM ({running}) WHERE b < {count}) END"
    )


def best_order(rows: str, filters: Sequence[tuple[str, str]]) -> str:
    """Filters one after another, (condition, argument) each, in the order that asks least."""
    word = "AND" if " WHERE " in rows else "WHERE"
    orders = []
    for order in permutations(filters):
        asked, passed = [], ""
        for condition, argument in order:
            asked.append(f"({everything(rows + passed, argument)})")
            passed += f" {word if not passed else 'AND'} {condition}"
        orders.append(" + ".join(asked))
    return f"SELECT least({', '.join(orders)})"


MOVIES = (
    Statement(
        "Q1 five positive reviews",
        f"SELECT reviewId FROM reviews WHERE {POSITIVE} LIMIT 5",
        first(5, "reviews", POSITIVE, "reviewText"),
    ),
    Statement(
        "Q2 five positive reviews of a film",
        f"SELECT reviewId FROM {ONE_MOVIE} AND {POSITIVE} LIMIT 5",
        first(5, ONE_MOVIE, POSITIVE, "reviewText"),
    ),
    Statement(
        "Q3 count of positive reviews",
        f"SELECT count(*) FROM {ONE_MOVIE} AND {POSITIVE}",
        everything(ONE_MOVIE, "reviewText"),
    ),
    Statement(
        "Q4 share of positive reviews",
        f"SELECT avg(CASE WHEN {POSITIVE} THEN 1.0 ELSE 0 END) FROM {ONE_MOVIE}",
        everything(ONE_MOVIE, "reviewText"),
    ),
    Statement(
        "Q5 ten pairs of the same sentiment",
        f"SELECT r1.reviewId, r2.reviewId FROM {PAIRS} WHERE {SAME} LIMIT 10",
        first(10, PAIRS, SAME, "r1.reviewText", "r2.reviewText"),
    ),
    Statement(
        "Q6 ten pairs of opposite sentiment",
        f"SELECT r1.reviewId, r2.reviewId FROM {PAIRS} WHERE {OPPOSITE} LIMIT 10",
        first(10, PAIRS, OPPOSITE, "r1.reviewText", "r2.reviewText"),
    ),
    Statement(
        "Q7 all pairs of opposite sentiment",
        f"SELECT r1.reviewId, r2.reviewId FROM {PAIRS} WHERE {OPPOSITE}",
        everything(PAIRS, "r1.reviewText", "r2.reviewText"),
    ),
    Statement(
        "Q8 reviews by sentiment",
        f"SELECT CASE WHEN {POSITIVE} THEN 'POSITIVE' ELSE 'NEGATIVE' END AS s, count(*) "
        f"FROM {ONE_MOVIE} GROUP BY s",
        everything(ONE_MOVIE, "reviewText"),
    ),
    Statement(
        "Q9 scores of a film's reviews",
        f"SELECT reviewId, {LIKED} FROM {QUANTUMANIA}",
        everything(QUANTUMANIA, "reviewText"),
    ),
    Statement(
        "Q10 films ranked by mean score",
        f"SELECT id, avg({LIKED}) AS s FROM reviews GROUP BY id ORDER BY s DESC",
        everything("reviews", "reviewText"),
    ),
)

FILTERS = (
    Statement(
        "plain predicate beside a call",
        f"SELECT text FROM tweets WHERE {COMMON} AND airline = 'Delta'",
        everything("tweets WHERE airline = 'Delta'", "text"),
    ),
    Statement(
        "two calls, the common one first",
        f"SELECT text FROM tweets WHERE {COMMON} AND {RARE}",
        best_order("tweets", [(COMMON, "text"), (RARE, "text")]),
    ),
    Statement(
        "two calls, ten rows",
        f"SELECT text FROM tweets WHERE {COMMON} AND {RARE} LIMIT 10",
        f"SELECT 2 * ({first(10, 'tweets', f'{COMMON} AND {RARE}', 'text')})",
    ),
    Statement(
        "a call OR a plain predicate",
        "SELECT review_id FROM purchases WHERE "
        "LLM_FILTER('Is it broken?', review_text) OR rating = 5",
        everything("purchases WHERE rating IS DISTINCT FROM 5", "review_text"),
    ),
    Statement(
        "NOT of a call, with a range",
        f"SELECT text FROM tweets WHERE NOT {RARE} AND row_id < 500",
        everything("tweets WHERE row_id < 500", "text"),
    ),
    Statement(
        "the call on a repeated column",
        f"SELECT product_name, {KIND} FROM purchases",
        everything("purchases", "product_name"),
    ),
    Statement(
        "the same call in two places",
        f"SELECT {KIND} AS kind, rating FROM purchases WHERE {KIND} <> 'other'",
        everything("purchases", "product_name"),
    ),
    Statement(
        "ten rows by a plain order",
        "SELECT LLM_SUMMARIZE(text) FROM tweets ORDER BY row_id DESC LIMIT 10",
        everything("(SELECT text FROM tweets ORDER BY row_id DESC LIMIT 10)", "text"),
    ),
    Statement(
        "a call of a call",
        "SELECT LLM_FILTER('Is the customer angry?', LLM_SUMMARIZE(text)) FROM tweets "
        "WHERE airline = 'Delta'",
        "SELECT 2 * count(DISTINCT text) FROM tweets WHERE airline = 'Delta'",
    ),
    Statement(
        "is there any",
        f"SELECT EXISTS (SELECT 1 FROM tweets WHERE {RARE})",
        "SELECT 1",
    ),
)

WIDER = (
    Statement(
        "filter of a film, rows of its reviews",
        f"SELECT r.review_id FROM {FILMS} WHERE {FAMILY} AND top_critic",
        everything(f"{FILMS} WHERE top_critic", "synopsis"),
    ),
    Statement(
        "the same, twenty rows",
        f"SELECT r.review_id FROM {FILMS} WHERE {FAMILY} AND top_critic LIMIT 20",
        first(20, f"{FILMS} WHERE top_critic", FAMILY, "synopsis"),
    ),
    Statement(
        "a filter on each side of a join",
        f"SELECT r.review_id FROM {FILMS} WHERE {HARSH} AND {FAMILY}",
        best_order(FILMS, [(FAMILY, "synopsis"), (HARSH, "review")]),
    ),
    Statement(
        "genres grouped",
        "SELECT LLM_CLASSIFY(genre, ['loud', 'quiet']) AS c, sum(quantity) FROM invoices "
        "GROUP BY c",
        everything("invoices", "genre"),
    ),
    Statement(
        "CASE with a plain branch",
        f"SELECT CASE WHEN sentiment <> 'negative' THEN 'none' ELSE {REASON} END FROM tweets",
        everything("tweets WHERE (sentiment <> 'negative') IS NOT TRUE", "text"),
    ),
    Statement(
        "COALESCE with a known value",
        f"SELECT coalesce(negative_reason, {REASON}) FROM tweets",
        everything("tweets WHERE negative_reason IS NULL", "text"),
    ),
    Statement(
        "FILTER of an aggregate",
        f"SELECT airline, count(*) FILTER (WHERE retweet_count > 0 AND {COMMON}) FROM tweets "
        "GROUP BY airline",
        everything("tweets WHERE retweet_count > 0", "text"),
    ),
    Statement(
        "films with a positive review",
        f"SELECT title FROM movies WHERE id IN (SELECT id FROM reviews WHERE {POSITIVE})",
        "SELECT sum(n) FROM (SELECT CASE WHEN bool_or(" + POSITIVE + ") THEN 1 "
        "ELSE count(DISTINCT reviewText) END AS n FROM reviews "
        "WHERE id IN (SELECT id FROM movies) GROUP BY id)",
    ),
    Statement(
        "a column that nobody reads",
        f"WITH t AS (SELECT airline, {REASON} AS reason FROM tweets) "
        "SELECT airline, count(*) FROM t GROUP BY airline",
        "SELECT 0",
    ),
    Statement(
        "UNION ALL, ten rows",
        f"SELECT text FROM tweets WHERE {COMMON} UNION ALL "
        f"SELECT reviewText FROM reviews WHERE {POSITIVE} LIMIT 10",
        first(10, "tweets", COMMON, "text"),
    ),
)

STATEMENTS = (*MOVIES, *FILTERS, *WIDER)

TABLES = {
    "reviews": "sembench_movie_reviews",
    "movies": "sembench_movie_movies",
    "tweets": "airline_tweets",
    "purchases": "amazon_datafiniti",
    "invoices": "chinook_invoice_lines",
    "rt_movies": "rt_movies",
    "rt_reviews": "rt_reviews",
}
"""Name in the statements: name of the parquet file under tables/."""
