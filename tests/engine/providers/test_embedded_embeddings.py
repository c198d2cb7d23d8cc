"""all-MiniLM-L6-v2 in process: the vectors that its authors publish, from a file of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import quackllm
from quackllm.errors import ModelNotFound, ProviderError, RequestRefused

pytestmark = pytest.mark.local_model

TEXTS = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
]


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        with quackllm.connect(cache_path=":memory:", progress=False) as connection:
            connection.execute("SELECT LLM_EMBED('x')")
            assert list(folder.rglob("*.gguf")), "the file is in the user's cache directory"
            assert not list(folder.rglob("*.part"))
            yield connection


def similarity(con: Any, a: str, b: str) -> float:
    return float(con.execute("SELECT LLM_SIMILARITY(?, ?)", [a, b]).fetchone()[0])


@pytest.mark.parametrize(("a", "b", "published"), [(0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411)])
def test_similarities_are_those_that_are_published(
    con: Any, a: int, b: int, published: float
) -> None:
    # Of the model in PyTorch, in the quickstart of the library sentence-transformers.
    assert similarity(con, TEXTS[a], TEXTS[b]) == pytest.approx(published, abs=0.002)


def test_vectors_have_384_numbers_and_length_1(con: Any) -> None:
    row = con.execute("SELECT LLM_EMBED('Grüße, 世界 😀') AS e").fetchone()
    assert len(row[0]) == 384
    assert sum(number * number for number in row[0]) == pytest.approx(1, abs=1e-5)


def test_the_meaning_counts_and_not_the_words(con: Any) -> None:
    asked = "How do I get my money back?"
    assert similarity(con, asked, "refund policy") > similarity(con, asked, "weather in Paris")


def test_a_text_longer_than_the_window_is_null_and_recorded(con: Any) -> None:
    con.execute("CREATE TABLE t AS SELECT unnest(['short', repeat('word ', 600), 'other']) AS a")
    found = con.execute("SELECT left(a, 5) FROM t WHERE LLM_EMBED(a) IS NULL").fetchall()
    assert found == [("word ",)]
    causes = con.execute("SELECT cause FROM llm_errors()").fetchall()
    assert causes == [("context window exceeded",)]


def test_another_number_of_dimensions_is_refused(con: Any) -> None:
    with pytest.raises(RequestRefused, match="gives 384 dimensions"):
        con.execute("SELECT LLM_EMBED('x', dimensions := 100)")


def test_a_file_that_is_missing_is_said() -> None:
    con = quackllm.connect(embedding_model="/nowhere/model.gguf", progress=False)
    with pytest.raises(ModelNotFound, match=r"there is no model file '/nowhere/model\.gguf'"):
        con.execute("SELECT LLM_EMBED('x')")


def test_a_cache_directory_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    con = quackllm.connect(cache_path=":memory:", progress=False)
    with pytest.raises(ProviderError, match="cannot be written"):
        con.execute("SELECT LLM_EMBED('x')")


def test_a_script_that_does_not_close_its_connection_ends_quietly() -> None:
    script = (
        "import quackllm\n"
        "con = quackllm.connect(cache_path=':memory:', progress=False, "
        "model='smollm2-135m-instruct')\n"
        "con.execute(\"SELECT LLM_EMBED('x'), LLM_FILTER('Is it short?', 'x')\")\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
