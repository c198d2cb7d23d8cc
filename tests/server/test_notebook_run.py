"""A notebook that is really run: a kernel, its messages, what a reader sees in each cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

CELLS = [
    """
%load_ext quackllm
import pandas as pd
import quackllm
from quackllm.testing import FakeProvider
provider = FakeProvider(latency=0.4)
con = quackllm.connect(provider=provider, concurrency=4)
reviews = pd.DataFrame({"id": range(30), "body": [f"review {i}" for i in range(30)]})
""",
    """%%llmsql --con con --out scored
SELECT id, LLM_FILTER('Is it positive?', body) AS positive FROM reviews""",
    "print(scored.df().positive.notna().sum(), provider.calls)",
    "%%llmsql --con con\nSELECT range,\n  nothing FROM range(3)",
    "%%llmsql --con con\nEXPLAIN SELECT LLM('why?', id) FROM scored",
    "%llmsql --con con SELECT count(*) AS n FROM scored",
]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Any:
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(source.strip("\n")) for source in CELLS]
    folder = tmp_path_factory.mktemp("notebook")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "IPYTHONDIR": str(folder)}
    client = nbclient.NotebookClient(book, timeout=120, allow_errors=True, kernel_name="python3")
    client.execute(cwd=str(folder), env=environment)
    return book


def shown(cells: Any, number: int, kind: str) -> str:
    """Return what a cell shows of a kind of output: a MIME type, or a stream's name."""
    found = []
    for output in cells.cells[number].outputs:
        if output.output_type == "stream" and output.name == kind:
            found.append(output.text)
        elif kind in output.get("data", {}):
            found.append(str(output.data[kind]))
    return "\n".join(found)


def test_the_result_is_a_table_with_its_cost(cells: Any) -> None:
    page = shown(cells, 1, "text/html")
    assert "<small>boolean</small>" in page
    assert "first 20 of 30 rows" in page
    assert "30 calls" in page


def test_progress_is_shown_live(cells: Any) -> None:
    """The bar is a widget, whose state goes on while calls are answered."""
    assert shown(cells, 1, "application/vnd.jupyter.widget-view+json")
    states = cells.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert any("LLM_FILTER" in str(state) for state in states.values())


def test_looking_asks_nothing_more(cells: Any) -> None:
    assert shown(cells, 2, "stdout") == "30 30\n"


def test_an_error_is_a_few_lines_with_its_place(cells: Any) -> None:
    said = shown(cells, 3, "stderr")
    assert said.startswith("UsageError: Binder Error: ")
    assert "LINE 2:   nothing FROM range(3)\n          ^" in said
    assert "Traceback" not in said


def test_explain_is_the_plan_and_asks_nothing(cells: Any) -> None:
    assert "● model 1: LLM in SELECT" in shown(cells, 4, "stdout")


def test_a_result_is_a_table_of_the_next_cell(cells: Any) -> None:
    assert ">30</td>" in shown(cells, 5, "text/html")
    assert "1 row" in shown(cells, 5, "text/html")
