"""SQL in notebook cells: rows as a table, what they cost, the notebook's variables as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import quackllm
from quackllm.server.notebook import ResultTable


@pytest.fixture
def shell() -> Iterator[Any]:
    made: Any = InteractiveShell()  # type: ignore[no-untyped-call]
    made.run_line_magic("load_ext", "quackllm")
    con = quackllm.connect(provider="fake", progress=False)
    con.execute(
        "CREATE TABLE films AS SELECT range AS id, 'Film ' || range AS title FROM range(50)"
    )
    made.user_ns["con"] = con
    yield made
    con.close()


def run(shell: Any, line: str, cell: str) -> Any:
    return shell.run_cell_magic("llmsql", line, cell)


def test_a_cell_shows_rows_and_what_they_cost(shell: Any) -> None:
    shown = run(shell, "--con con", "SELECT id, LLM_FILTER('odd?', title) AS odd FROM films;")
    assert isinstance(shown, ResultTable)
    page = shown._repr_html_()
    assert page.count("<tr>") == 21
    assert "first 20 of 50 rows" in page
    assert "50 calls" in page
    assert "boolean" in page
    assert "50 calls" in repr(shown)


def test_looking_twice_asks_once(shell: Any) -> None:
    shown = run(shell, "--con con", "SELECT LLM('x', title) FROM films LIMIT 3")
    for _ in range(3):
        shown._repr_html_()
        repr(shown)
    assert sum(stats.calls for stats in shell.user_ns["con"].llm_engine.history) == 3


def test_text_from_a_table_is_no_html(shell: Any) -> None:
    shown = run(shell, "--con con", "SELECT '<script>x</script>' AS \"<b>\", NULL AS n")
    page = shown._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "NULL" in page


def test_variables_are_tables_and_the_result_becomes_one(shell: Any) -> None:
    shell.user_ns["frame"] = pd.DataFrame({"word": ["duck", "train"]})
    run(shell, "--con con --out odd", "SELECT word, LLM_FILTER('odd?', word) AS o FROM frame")
    assert shell.user_ns["odd"].fetchall()[0][0] == "duck"
    again = run(shell, "--con con", "SELECT count(*) AS n FROM odd")
    assert again.relation.fetchall() == [(2,)]


def test_a_line_runs_too(shell: Any) -> None:
    shown = shell.run_line_magic("llmsql", "--con con SELECT 1 AS one")
    assert shown.relation.fetchall() == [(1,)]


def test_statements_without_rows_show_nothing(shell: Any) -> None:
    assert run(shell, "--con con", "CREATE TABLE t (i INTEGER); INSERT INTO t VALUES (1)") is None


def test_explain_prints_the_plan(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["frame"] = pd.DataFrame({"word": ["duck", "train"]})
    for table, column in (("films", "title"), ("frame", "word")):
        explain = f"EXPLAIN SELECT LLM('x', {column}) FROM {table}"
        assert run(shell, "--con con", explain) is None
        assert "at most" in capsys.readouterr().out


def test_a_connection_of_its_own_keeps_its_tables(shell: Any) -> None:
    run(shell, "", "CREATE TABLE own AS SELECT 7 AS i")
    assert run(shell, "", "FROM own").relation.fetchall() == [(7,)]
    shell.find_cell_magic("llmsql").__self__._own.close()


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        ("--con con", "SELECT LLM_FILTR('x', 1)", "llm_filter"),
        ("--con con", "SELECT nothing FROM films", "nothing"),
        ("--con other", "SELECT 1", "--con other"),
        ("--conn con", "SELECT 1", "--con NAME"),
        ("--con", "SELECT 1", "--con NAME"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(shell: Any, line: str, cell: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?i){said}"):
        run(shell, line, cell)
