"""What is legal and hardly meant is said before it is paid for, and nothing else is."""

from __future__ import annotations

import pytest

from quackllm.engine.connection import Connection
from quackllm.engine.events import Event, Notice
from quackllm.testing import FakeProvider

MOOD = "SELECT *, LLM_SENTIMENT(body) AS mood FROM reviews"

DOUBTED = [
    ("SELECT LLM_FILTER(body, 'Is it kind?') FROM reviews", "Are they in each other's place?"),
    ("SELECT LLM(body, 'Sum it up') FROM reviews", "LLM(prompt, [arguments, ...])"),
    ("SELECT LLM_TRANSLATE('French', body) FROM reviews", "language is body"),
    ("SELECT LLM_FILTER('Is it kind?', 'Body') FROM reviews", "without quotes: body"),
    ("SELECT LLM_SENTIMENT('mood') FROM (SELECT id AS mood FROM reviews)", "quotes: mood"),
    (
        "SELECT 1 FROM reviews WHERE LLM_CLASSIFY(body, ['good', 'bad']) = 'Good'",
        "LLM_CLASSIFY answers one of 'good', 'bad', and is compared with 'Good', which it never "
        "is, did you mean good?",
    ),
    ("SELECT 1 FROM reviews WHERE LLM_SENTIMENT(body) IN ('positive', 'mixed')", "with 'mixed'"),
    ("SELECT 1 FROM reviews WHERE 'bad' <> LLM_SENTIMENT(body)", "compared with 'bad'"),
    (f"SELECT 1 FROM ({MOOD}) WHERE mood = 'Positive'", "did you mean positive?"),
    (f"WITH m AS ({MOOD}) SELECT count(*) FILTER (mood = 'x') FROM m", "compared with 'x'"),
    (f"WITH m AS ({MOOD}) SELECT CASE mood WHEN 'y' THEN 1 END FROM m", "compared with 'y'"),
    (f"{MOOD} WHERE mood = 'z'", "compared with 'z'"),
    (f"SELECT mood, count(*) FROM ({MOOD}) GROUP BY mood HAVING mood = 'h'", "with 'h'"),
    ("UPDATE reviews SET stars = 1 WHERE LLM_SENTIMENT(body) = 'u'", "compared with 'u'"),
    ("EXPLAIN SELECT 1 FROM reviews WHERE LLM_SENTIMENT(body) = 'e'", "compared with 'e'"),
]

NOT_DOUBTED = [
    "SELECT LLM(body, title) FROM movies JOIN reviews ON movies.id = movie_id LIMIT 1",
    f"SELECT LLM(body, '{'a long text ' * 20}') FROM reviews LIMIT 1",
    "SELECT LLM_TRANSLATE(body, genre) FROM movies JOIN reviews ON movies.id = movie_id LIMIT 1",
    "SELECT LLM_SENTIMENT('body')",
    "SELECT LLM_SENTIMENT('a text') FROM reviews LIMIT 1",
    "SELECT 1 FROM reviews WHERE LLM_SENTIMENT(body) IN ('positive', 'neutral')",
    "SELECT 1 FROM reviews WHERE LLM_SENTIMENT(body, default_value := 'none') = 'none'",
    "SELECT 1 FROM movies WHERE LLM_SENTIMENT(title) = genre",
    "SELECT 1 FROM movies WHERE LLM_FILTER('x', title) = 'true'",
    "SELECT LLM_SENTIMENT(title) AS genre FROM movies WHERE genre = 'comedy'",
    f"SELECT 1 FROM ({MOOD}) JOIN (SELECT 'x' AS mood) AS o ON o.mood = 'x'",
]


def _notices(con: Connection) -> list[str]:
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            said.append(event.text)

    con.llm_engine.events.listeners.append(listen)
    return said


@pytest.mark.parametrize(("sql", "words"), DOUBTED)
def test_what_is_hardly_meant_is_said(con: Connection, sql: str, words: str) -> None:
    said = _notices(con)
    con.execute(sql).fetchall()
    assert len(said) == 1
    assert words in said[0]


@pytest.mark.parametrize("sql", NOT_DOUBTED)
def test_what_may_well_be_meant_is_not_doubted(con: Connection, sql: str) -> None:
    said = _notices(con)
    con.execute(sql).fetchall()
    assert said == []


def test_doubts_are_said_before_the_first_call_and_kept_for_servers(
    con: Connection, fake: FakeProvider
) -> None:
    calls: list[int] = []
    con.llm_engine.events.listeners.append(
        lambda event: calls.append(fake.calls) if isinstance(event, Notice) else None
    )
    con.execute("SELECT LLM_SENTIMENT(body) = 'Good' FROM reviews").fetchall()
    assert calls == [0]
    [doubt] = con.llm_engine.history[-1].doubts
    assert doubt.startswith("LLM_SENTIMENT answers one of 'positive', 'negative', 'neutral', and")
