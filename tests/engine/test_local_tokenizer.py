"""Tokens counted by the model's own tokenizer.json, where a server does not tell them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import quackllm
from quackllm.errors import BindError, ProviderError
from quackllm.testing import FakeServer

ROWS = """CREATE TABLE t AS
SELECT i, hash(i)::VARCHAR AS code, 'prose ' || i % 3 AS text FROM range(64) r(i)"""
ASK = "SELECT LLM_FILTER('Is it odd?', code, text) FROM t"


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """The tokenizer.json of a model whose tokens are single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[])
    tokenizer: Any = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    return file


def expected_tokens(con: quackllm.Connection) -> tuple[float, str]:
    """How many tokens of prompts EXPLAIN expects after the first time, and by what."""
    con.execute(ROWS)
    con.execute(ASK).fetchall()
    con.llm_engine.history.clear()  # not by what calls have cost since
    text = con.execute(f"EXPLAIN (FORMAT JSON) {ASK}").fetchall()[0][-1]
    [stage] = [each for each in json.loads(text)["stages"] if each["stage"] == "model"]
    return stage["expected"]["tokens_in"], stage["basis"]["tokens_in_by"]


def sent_characters(server: FakeServer) -> int:
    return sum(
        sum(len(message["content"]) for message in request.body["messages"]) + 1
        for request in server.received
        if request.path.endswith("/chat/completions")
    )


@pytest.mark.parametrize("flavor", ["openai", "ollama", "vllm"])
def test_prompts_are_as_long_as_the_file_says_and_the_server_is_not_asked(
    flavor: Any, letters: Path
) -> None:
    with (
        FakeServer(flavor=flavor) as server,
        quackllm.connect(
            base_url=server.base_url, tokenizer=str(letters.parent), progress=False, cache=False
        ) as con,
    ):
        tokens, by = expected_tokens(con)
        assert by == "tokenizer"
        assert tokens == pytest.approx(sent_characters(server), rel=0.02)
        assert not any(request.path == "/tokenize" for request in server.received)
        assert con.execute("SELECT token_counts FROM llm_models()").fetchall() == [("exact",)]


def test_a_named_model_has_a_tokenizer_of_its_own_and_not_that_of_the_setting(
    letters: Path,
) -> None:
    with (
        FakeServer(models=("m",)) as server,
        quackllm.connect(tokenizer="/nowhere/tokenizer.json", progress=False, cache=False) as con,
    ):
        con.execute(
            f"CREATE MODEL mine (model 'm', base_url '{server.base_url}', tokenizer '{letters}')"
        )
        con.execute("SET llm_model = 'mine'")
        assert expected_tokens(con)[1] == "tokenizer"


@pytest.mark.parametrize(
    ("content", "named", "said"),
    [
        (None, "tokenizer.json", "cannot be read .No such file or directory."),
        (None, "", "tokenizer.json cannot be read .No such file or directory."),
        (b"{}", "tokenizer.json", "is not a tokenizer.json that this version"),
        (b"\xff\x00", "tokenizer.json", "is not a tokenizer.json that this version"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_a_clear_error_before_any_call(
    content: bytes | None, named: str, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    given = str(tmp_path / named)
    with (
        FakeServer() as server,
        quackllm.connect(base_url=server.base_url, tokenizer=given, progress=False) as con,
    ):
        con.execute(ROWS)
        with pytest.raises(ProviderError, match=f"llm_tokenizer = .*{said}"):
            con.execute(ASK)
        con.execute("RESET llm_tokenizer")
        assert len(con.execute(ASK).fetchall()) == 64
        assert server.calls == 64


def test_a_missing_package_is_named_with_what_installs_it(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with (
        FakeServer() as server,
        quackllm.connect(base_url=server.base_url, tokenizer=str(letters), progress=False) as con,
        pytest.raises(ProviderError, match=r"pip install 'quackllm\[tokenizer\]'"),
    ):
        con.execute("SELECT LLM_FILTER('Is it odd?', 1)")


def test_a_setting_that_is_no_path_is_refused() -> None:
    with quackllm.connect() as con, pytest.raises((BindError, quackllm.errors.SettingError)):
        con.execute("SET llm_tokenizer = 12")
