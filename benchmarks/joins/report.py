"""Joins on what a model says: calls, tokens, seconds and recall of every strategy.

    python -m benchmarks.joins.report [--data DIR] [--sample PAIRS] [--cache FILE] [--only NAME]

Entity resolution on Abt-Buy, Amazon-Google and DBLP-ACM, and the pairs of reviews of SemBench's
movie scenario. The model is an oracle that answers from the gold labels at once, so that recall
is that of the strategy alone, and seconds are those of the engine; embeddings are those of
all-MiniLM-L6-v2 in this process (`--cache` keeps them for another run). The exact form of the
large joins is not run: its calls and tokens are those that EXPLAIN tells, and its recall is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import duckdb

from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Provider, Request
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.registry import GROUP, Providers
from quackllm.engine.settings import settings_from
from quackllm.testing import FakeProvider

Answer = Callable[[Request], str]


@dataclass(frozen=True)
class Entities:
    """Two tables of entities, the text that stands for one, and what they are called."""

    name: str
    text: str
    thing: str

    @property
    def condition(self) -> str:
        """The condition of their join."""
        return (
            f"LLM_FILTER('Are {{x}} and {{y}} the same {self.thing}?', "
            "{'x': a.text, 'y': b.text}, strategy := 'block')"
        )


ENTITIES = (
    Entities("abt_buy", "concat_ws(' ', name, description)", "product"),
    Entities("amazon_google", "concat_ws(' ', title, manufacturer)", "software"),
    Entities("dblp_acm", "concat_ws(' ', title, authors, venue, year)", "paper"),
)

MOVIE = "ant_man_and_the_wasp_quantumania"
"""The film whose reviews SemBench's queries Q5 to Q7 pair."""

SENTIMENT = "LLM_CLASSIFY({}, ['positive', 'negative'])"
PAIRS = "FROM reviews r JOIN reviews s ON r.id = s.id AND r.n <> s.n AND "
MOVIES = {
    "equal sentiment, asked as pairs": (
        "SELECT r.n, s.n "
        + PAIRS
        + "LLM_FILTER('Do {x} and {y} say the same?', {'x': r.text, 'y': s.text})"
    ),
    "the same, as two LLM_CLASSIFY that are compared": (
        "SELECT r.n, s.n " + PAIRS + f"{SENTIMENT.format('r.text')} = {SENTIMENT.format('s.text')}"
    ),
}


@dataclass
class Line:
    """One row of the table. Tokens are of prompts; seconds those of the engine."""

    data: str
    strategy: str
    pairs: int
    calls: int
    tokens: int
    seconds: float | None
    recall: float
    estimate: str = ""
    embedded: int = field(default=0)

    def shown(self) -> str:
        """The row in Markdown."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        cells = [
            self.data,
            self.strategy,
            f"{self.pairs:,}",
            f"{self.calls:,}",
            f"{self.pairs / max(self.calls, 1):.1f}",
            f"{self.tokens:,}",
            seconds,
            f"{self.recall:.3f}",
            self.estimate,
        ]
        return f"| {' | '.join(cells)} |"


HEAD = """\
| data | strategy | pairs | calls | pairs / calls | prompt tokens | seconds | recall | estimate |
|---|---|--:|--:|--:|--:|--:|--:|---|"""


def connect(answer: Answer, cache: str) -> Connection:
    """Open a connection whose model is an oracle, and whose embeddings are real."""

    async def open_oracle(config: ProviderConfig) -> Provider:
        return FakeProvider(answer=answer, model=config.model or "oracle", keep=1)

    embeddings = {point.name: point.load for point in entry_points(group=GROUP)}
    chosen = embeddings["embedded_embeddings"]
    providers = Providers({"embedded": lambda: open_oracle, "embedded_embeddings": chosen})
    settings = settings_from({"progress": False, "cache_path": cache})
    return Connection(duckdb.connect(), Engine(providers=providers), settings)


def entities(chosen: Entities, folder: Path, sample: int | None, cache: str) -> Iterator[Line]:
    """Join two tables of entities by blocking."""
    gold: set[tuple[str, str]] = set()

    def answer(request: Request) -> str:
        fields = json.loads(request.fields)
        return "true" if (fields["x"], fields["y"]) in gold else "false"

    with connect(answer, cache) as con:
        for side in "ab":
            table = folder / "tables" / f"er_{chosen.name}_{side}.parquet"
            con.execute(f"CREATE TABLE {side} AS SELECT id, {chosen.text} AS text FROM '{table}'")
        truth = folder / "tables" / f"er_{chosen.name}_gt.parquet"
        matches = con.execute(
            f"SELECT DISTINCT a.text, b.text FROM '{truth}' JOIN a ON a.id = id_a "
            "JOIN b ON b.id = id_b"
        ).fetchall()
        gold.update(matches)
        if sample is not None:
            con.execute(f"SET llm_recall_sample = {sample}")
        # The texts are embedded beforehand: the join is to be timed without that.
        con.execute("SELECT count(LLM_EMBED(text)) FROM a; SELECT count(LLM_EMBED(text)) FROM b")
        sql = f"SELECT a.id, b.id FROM a JOIN b ON {chosen.condition}"
        started = time.monotonic()
        stage = explained(con, f"EXPLAIN (ANALYZE, FORMAT json) {sql}")
        seconds = time.monotonic() - started
        measured, told = stage["measured"], stage["at_most"]
        share = measured["recall"]
        yield Line(
            chosen.name, "exact", measured["pairs"], told["calls"], told["tokens_in"], None, 1.0
        )
        yield Line(
            chosen.name,
            f"block, {measured['depth']} deep, {measured['drawn']:,} drawn",
            measured["pairs"],
            measured["asked"],
            stage["actual"]["tokens_in"],
            seconds,
            measured["matches"] / len(gold),
            f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})",
        )


def explained(con: Connection, sql: str) -> dict[str, Any]:
    """Run EXPLAIN ANALYZE; return what it says of the first model stage."""
    row = con.execute(sql).fetchone()
    assert row is not None
    described = json.loads(row[1])
    first: dict[str, Any] = described["stages"][0]
    return first


def movies(folder: Path) -> Iterator[Line]:
    """Join the reviews of a film with themselves, as SemBench's Q5: asked as pairs and classes."""
    sentiment: dict[str, str] = {}

    def answer(request: Request) -> str:
        said = [sentiment[text] for text in json.loads(request.fields).values()]
        return said[0] if len(said) == 1 else str(said[0] == said[1]).lower()

    with connect(answer, ":memory:") as con:
        table = folder / "tables" / "sembench_movie_reviews.parquet"
        con.execute(
            "CREATE TABLE reviews AS SELECT id, row_number() OVER () AS n, text, sentiment FROM "
            "(SELECT id, reviewText AS text, any_value(lower(scoreSentiment)) AS sentiment "
            f"FROM '{table}' WHERE id = '{MOVIE}' AND text IS NOT NULL GROUP BY ALL) ORDER BY text"
        )
        sentiment.update(con.execute("SELECT text, sentiment FROM reviews").fetchall())
        gold = set(
            con.execute(
                "SELECT r.n, s.n FROM reviews r JOIN reviews s ON r.id = s.id AND r.n <> s.n "
                "AND r.sentiment = s.sentiment"
            ).fetchall()
        )
        for name, sql in MOVIES.items():
            for limit in ("", " LIMIT 10"):
                con.execute("CALL llm_clear_cache()")
                yield _of_movies(con, name + limit, sql + limit, gold)


def _of_movies(con: Connection, name: str, sql: str, gold: set[Any]) -> Line:
    [(pairs,)] = con.execute(
        "SELECT count(DISTINCT (r.text, s.text)) FROM reviews r JOIN reviews s "
        "ON r.id = s.id AND r.n <> s.n"
    ).fetchall()
    started = time.monotonic()
    rows = set(con.execute(sql).fetchall())
    seconds = time.monotonic() - started
    last = con.llm_engine.history[-1]
    assert rows <= gold
    wanted = 10 if "LIMIT" in sql else len(gold)
    return Line("movie", name, pairs, last.calls, last.prompt_tokens, seconds, len(rows) / wanted)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    folder = os.environ.get("QUACKLLM_BENCH_DATA", "../shared/data")
    options.add_argument("--data", type=Path, default=Path(folder))
    options.add_argument("--sample", type=int, help="pairs drawn for the estimate")
    options.add_argument("--cache", default=":memory:", help="file that keeps the embeddings")
    options.add_argument("--only", help="one data set: abt_buy, amazon_google, dblp_acm, movie")
    given = options.parse_args()
    if not (given.data / "tables").is_dir():
        options.error(f"there are no tables in {given.data}: --data says where they are")
    print(HEAD, flush=True)
    for chosen in ENTITIES:
        if given.only in (None, chosen.name):
            for line in entities(chosen, given.data, given.sample, given.cache):
                print(line.shown(), flush=True)
    if given.only in (None, "movie"):
        for line in movies(given.data):
            print(line.shown(), flush=True)


if __name__ == "__main__":
    main()
