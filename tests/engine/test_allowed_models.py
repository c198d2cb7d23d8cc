"""`llm_allowed_models`: no statement asks another model, whoever names it (promise 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import quackllm
from quackllm.errors import ModelNotAllowed
from quackllm.testing import FakeProvider


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def con(provider: FakeProvider) -> Iterator[Any]:
    made = quackllm.connect(provider=provider, progress=False, model="fast")
    made.execute("CREATE TABLE t AS SELECT 'text ' || i AS x FROM range(5) r(i)")
    made.execute("CREATE VIEW v AS SELECT LLM('Refused?', x, model := 'large') AS a FROM t")
    made.execute("CREATE MODEL other (model 'fast')")
    made.execute("SET llm_allowed_models = 'fast, SMALL'")
    yield made
    made.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT LLM('Refused?', x, model := 'large') FROM t",
        "SELECT LLM('Refused?', x, model := 'other') FROM t",
        "SELECT * FROM v",
        "FROM query_table('v')",
        "FROM query('SELECT * FROM v')",
        "SUMMARIZE v",
        "SELECT CASE WHEN LLM_FILTER('?', x) THEN LLM('Refused?', x, model := 'large') END FROM t",
        "UPDATE t SET x = LLM('Refused?', x, model := 'large')",
        "SELECT list_transform([x], lambda y: LLM('Refused?', y, model := 'large')) FROM t",
    ],
)
def test_another_model_is_not_asked(con: Any, provider: FakeProvider, sql: str) -> None:
    with pytest.raises(ModelNotAllowed, match="llm_allowed_models allows fast, SMALL"):
        con.execute(sql).fetchall()
    assert not any("Refused?" in request.instruction for request in provider.requests)


@pytest.mark.parametrize("option", ["", ", model := 'FAST'", ", model := 'small'"])
def test_those_named_answer(con: Any, option: str) -> None:
    assert len(con.execute(f"SELECT LLM('?', x{option}) FROM t").fetchall()) == 5


def test_the_models_own_default_is_not_one_of_those_named(con: Any) -> None:
    con.execute("RESET llm_model")
    with pytest.raises(ModelNotAllowed, match="the default model may not answer"):
        con.execute("SELECT LLM('?', x) FROM t")
    con.execute("RESET llm_allowed_models")
    assert len(con.execute("SELECT LLM('?', x) FROM t").fetchall()) == 5
