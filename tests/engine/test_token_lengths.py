"""Lengths in the model's own tokens, where a server tells them: what is predicted comes true."""

from __future__ import annotations

import json
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Capabilities
from quackllm.testing import FakeProvider, FakeServer
from quackllm.udfs.prompt import DATA_NOTE

METRICS = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="4096"} 1.0\n'
CODES = """CREATE TABLE t AS
SELECT i, hash(i)::VARCHAR AS code, 'prose ' || i % 3 AS text FROM range({}) r(i)"""
ASK = "SELECT LLM_FILTER('Is it odd?', code, text) FROM t"


def asked(server: FakeServer, path: str) -> int:
    return sum(request.path == path for request in server.received)


def expected_tokens(con: Connection) -> float:
    text = con.execute(f"EXPLAIN (FORMAT JSON) {ASK}").fetchall()[0][-1]
    [stage] = [each for each in json.loads(text)["stages"] if each["stage"] == "model"]
    tokens: float = stage["expected"]["tokens_in"]
    return tokens


class Tokenizing(FakeProvider):
    """A model whose tokens are single characters, with a template of three around a row."""

    async def tokenize(self, request: Any) -> list[int]:
        text = f"<{request.instruction}>{request.fields}]]"
        return [ord(character) for character in text]


def test_the_prompts_of_a_table_are_as_long_as_the_model_says() -> None:
    fake = Tokenizing(capabilities=Capabilities(prefix_granularity=1))
    with quackllm.connect(provider=fake, progress=False, cache=False) as con:
        con.execute(CODES.format(64))
        con.execute(ASK).fetchall()
        stage = next(iter(con.llm_engine.history[-1].stages.values()))
    exact = sum(len(request.instruction) + len(request.fields) + 4 for request in fake.requests)
    assert stage.expected_tokens == pytest.approx(exact, rel=0.02)


def test_explain_knows_the_lengths_from_the_first_time_on() -> None:
    with quackllm.connect(provider=Tokenizing(), progress=False, cache=False) as con:
        con.execute(CODES.format(64))
        before = expected_tokens(con)
        con.execute(ASK).fetchall()
        stage = next(iter(con.llm_engine.history[-1].stages.values()))
        con.llm_engine.history.clear()  # not by what calls have cost since
        after = expected_tokens(con)
    assert before < 0.5 * after
    assert after == pytest.approx(stage.expected_tokens, rel=0.01)


def test_a_vllm_server_is_asked_once_for_a_call_and_not_for_a_few_rows() -> None:
    with FakeServer(flavor="vllm", metrics=METRICS) as server:
        with quackllm.connect(base_url=server.base_url, progress=False, cache=False) as con:
            con.execute(CODES.format(31))
            con.execute(ASK).fetchall()
            assert asked(server, "/tokenize") == 0
            con.execute("INSERT INTO t SELECT 100 + range, 'x' || range, 'y' FROM range(40)")
            con.execute(ASK).fetchall()
            con.execute(ASK).fetchall()
        assert asked(server, "/tokenize") == 4, "two short rows, and a sample of each field"
        assert DATA_NOTE in server.received[-1].body["messages"][0]["content"]


@pytest.mark.parametrize("flavor", ["openai", "llama.cpp", "ollama"])
def test_servers_that_do_not_tokenize_are_not_asked_to(flavor: Any) -> None:
    with FakeServer(flavor=flavor) as server:
        with quackllm.connect(base_url=server.base_url, progress=False, cache=False) as con:
            con.execute(CODES.format(40))
            con.execute(ASK).fetchall()
        assert asked(server, "/tokenize") == 0


class Broken(FakeProvider):
    """A provider that cannot say what its prompts are, or not in time."""

    def __init__(self, said: list[int] | None) -> None:
        super().__init__()
        self.said = said

    async def tokenize(self, request: Any) -> list[int] | None:
        return self.said


@pytest.mark.parametrize("said", [None, [], [1], list(range(5))])
def test_whatever_a_tokenizer_says_the_rows_are_those_of_a_statement_without(
    said: list[int] | None,
) -> None:
    found = []
    for fake in (FakeProvider(), Broken(said)):
        with quackllm.connect(provider=fake, progress=False, cache=False) as con:
            con.execute(CODES.format(40))
            found.append(con.execute(f"{ASK} ORDER BY i").fetchall())
        assert fake.calls == 40
    assert found[0] == found[1]
