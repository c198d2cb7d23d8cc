"""BM25: the same scores as the formula written out in SQL."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

import quackllm
from quackllm.engine.lexical import WORDS, Postings, bm25

TEXTS = ["a duck and a duck", "the Duck swims", "trains", "", "Ünïcode ducks: rain-rain RAIN"]
FORMULA = f"""
WITH words AS (SELECT id, {WORDS.format(text="body")} AS words FROM texts),
    sizes AS (SELECT count(*) AS n, avg(len(words)) AS mean FROM words),
    found AS (SELECT id, len(words) AS length, word,
        len(list_filter(words, lambda w: w = word)) AS f
        FROM words, unnest(list_distinct({WORDS.format(text="$q")})) AS t(word)),
    weights AS (SELECT word, ln(1 + (any_value(n) - count(*) FILTER (f > 0) + 0.5)
        / (count(*) FILTER (f > 0) + 0.5)) AS idf FROM found, sizes GROUP BY word)
SELECT id, sum(idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * length / mean))) AS score
FROM found JOIN weights USING (word), sizes GROUP BY id HAVING score > 0 ORDER BY score DESC, id
"""


@pytest.mark.parametrize(
    "question", ["duck", "DUCK swims duck", "rain unicode", "a the and", "nothing here", "", "?!"]
)
def test_scores_are_those_of_the_formula(question: str) -> None:
    with quackllm.connect() as con, duckdb.connect() as plain:
        for each in (con, plain):
            each.execute("CREATE TABLE texts (id INTEGER, body VARCHAR)")
            each.executemany("INSERT INTO texts VALUES (?, ?)", list(enumerate(TEXTS)))
        expected = plain.execute(FORMULA, {"q": question}).fetchall()
        found = con.execute(
            "SELECT id, score FROM llm_search('texts', 'body', $1, mode := 'lexical')", [question]
        ).fetchall()
    assert [row[0] for row in found] == [row[0] for row in expected]
    assert np.allclose([row[1] for row in found], [row[1] for row in expected], rtol=1e-12)


def test_no_text_has_no_score() -> None:
    assert bm25(["a"], Postings({}, np.empty(0, np.int64))).shape == (0,)
