"""Parameters without white space between them are parameters, at their places in the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quackllm
from quackllm.optimizer.dollars import spaced
from quackllm.optimizer.sql import DIALECT

PIECES = st.sampled_from(
    [
        *(
            "$1",
            "$2",
            "$name",
            ",",
            "+",
            "(",
            ")",
            " ",
            "x",
            "::",
            "1.5",
            "'a $1,$2'",
            "'it''s $1'",
        ),
        *("e'\\'$1,$2'", '"q $1,$2"', "$$ a,$1 $$", "$t$ $1,$2 $t$", "-- $1,$2\n", "/* $1,$2 */"),
    ]
)


def words(sql: str) -> list[str]:
    """Return the tokens as they stand in the text, by the places that they say."""
    return [sql[token.start : token.end + 1] for token in DIALECT.tokenize(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("f($1,$2)", ["f", "(", "$", "1", ",", "$", "2", ")"]),
        ("$a+$b", ["$", "a", "+", "$", "b"]),
        ("$1::INT+$2 - 'x'", ["$", "1", "::", "INT", "+", "$", "2", "-", "'x'"]),
        ("$1,$t$ $2,$3 $t$", ["$", "1", ",", "$t$ $2,$3 $t$"]),
    ],
)
def test_tokens_are_those_of_the_text(sql: str, expected: list[str]) -> None:
    assert words(sql) == expected


@given(st.lists(PIECES, max_size=12))
def test_spaces_are_put_in_and_nothing_else_is_changed(pieces: list[str]) -> None:
    sql = "".join(pieces)
    text, places = spaced(sql)
    assert len(text) == len(sql) + len(places)
    assert "".join(char for at, char in enumerate(text) if at not in places) == sql


@given(st.lists(st.sampled_from(["$1", "$2", "$name"]), min_size=2, max_size=6))
def test_lists_of_parameters_read_alike_with_and_without_spaces(names: list[str]) -> None:
    assert words(f"f({','.join(names)})") == words(f"f({' , '.join(names)} )")


def test_parameters_side_by_side_reach_the_model() -> None:
    con = quackllm.connect(provider="fake", progress=False)
    for sql in ("SELECT LLM('Say it',$1,$2)", "SELECT LLM('Say it', $1, $2)"):
        con.execute(sql, ["a", "b"]).fetchall()
    [first, second] = con.llm_engine.history
    assert (first.calls, second.calls, second.cached) == (1, 0, 1)
    con.close()
