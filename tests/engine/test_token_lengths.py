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


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests must not turn tokens into estimates."""
    monkeypatch.setattr("quackllm.engine.token_lengths.LONGEST_WAIT", 60.0)


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


def lengths_of(server: FakeServer) -> tuple[float, str, str]:
    """What EXPLAIN expects after the first time, what that rests on, and what is known of it."""
    with quackllm.connect(base_url=server.base_url, progress=False, cache=False) as con:
        con.execute(CODES.format(64))
        con.execute(ASK).fetchall()
        con.llm_engine.history.clear()  # not by what calls have cost since
        text = con.execute(f"EXPLAIN (FORMAT JSON) {ASK}").fetchall()[0][-1]
        [stage] = [each for each in json.loads(text)["stages"] if each["stage"] == "model"]
        [(shown,)] = con.execute("SELECT token_counts FROM llm_models()").fetchall()
    return stage["expected"]["tokens_in"], stage["basis"]["tokens_in_by"], shown


@pytest.mark.parametrize(
    ("flavor", "paths"),
    [
        ("vllm", {"/tokenize": 4}),
        ("llama.cpp", {"/apply-template": 4, "/tokenize": 4}),
        ("llama-cpp-python", {"/extras/tokenize": 4}),
    ],
)
def test_each_kind_of_server_is_asked_in_its_own_way(flavor: Any, paths: dict[str, int]) -> None:
    with FakeServer(flavor="vllm", metrics=METRICS) as usual:
        wanted, _, _ = lengths_of(usual)
    with FakeServer(flavor=flavor) as server:
        found, basis, shown = lengths_of(server)
    assert {path: asked(server, path) for path in paths} == paths
    assert (basis, shown) == ("tokenizer", "exact")
    # Of llama-cpp-python without the tokens of the template, two for each prompt.
    assert found == pytest.approx(wanted - (2 * 64 if "python" in flavor else 0), rel=0.01)


@pytest.mark.parametrize("flavor", ["openai", "ollama", "unconstrained"])
def test_where_nobody_counts_tokens_they_are_estimated_and_called_so(flavor: Any) -> None:
    with FakeServer(flavor=flavor) as server:
        _, basis, shown = lengths_of(server)
    assert (basis, shown) == ("characters", "estimated")


def test_a_server_without_such_a_request_is_asked_once_and_its_counts_are_estimates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quackllm.testing.server._tokenizer", lambda *_: None)
    with FakeServer(flavor="llama.cpp") as server:
        with quackllm.connect(base_url=server.base_url, progress=False, cache=False) as con:
            con.execute(CODES.format(40))
            for question in ("odd", "even", "prime"):
                con.execute(f"SELECT LLM_FILTER('Is it {question}?', code, text) FROM t").fetchall()
            shown = con.execute("SELECT token_counts FROM llm_models()").fetchall()
        assert asked(server, "/apply-template") == 4, "at once, and never again"
    assert shown == [("estimated",)]


def test_explain_says_in_words_where_the_tokens_of_prompts_come_from() -> None:
    with quackllm.connect(provider=Tokenizing(), progress=False, cache=False) as con:
        con.execute(CODES.format(64))
        before = con.execute(f"EXPLAIN VERBOSE {ASK}").fetchall()[0][-1]
        con.execute(ASK).fetchall()
        after = con.execute(f"EXPLAIN ANALYZE {ASK}").fetchall()[0][-1]
    assert "tokens in: estimated, 4 characters each" in before
    assert "tokens in: by the model's tokenizer" in after


@pytest.mark.parametrize("flavor", ["openai", "ollama"])
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
