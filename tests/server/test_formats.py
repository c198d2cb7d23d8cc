"""Formats: rows come through what they are written in, and look as DuckDB's shell has them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.server.formats.rows import Look
from quackllm.server.output import FORMATS

UNHURRIED = settings(deadline=None, max_examples=30)
TEXTS = st.none() | st.text(st.characters(exclude_characters="\x00", codec="utf-8"))
VALUES = st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=5)


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    with duckdb.connect() as made:
        yield made


def written(relation: Any, style: str, **look: Any) -> str:
    out = io.StringIO()
    FORMATS[style](relation, out, Look(**look))
    return out.getvalue()


def table(con: Any, rows: list[list[str | None]]) -> Any:
    con.execute("CREATE OR REPLACE TABLE given (number INTEGER, a VARCHAR, b VARCHAR)")
    if rows:
        con.executemany("INSERT INTO given VALUES (?, ?, ?)", [[n, *r] for n, r in enumerate(rows)])
    return con.sql("SELECT a, b FROM given ORDER BY number")


@UNHURRIED
@given(rows=VALUES)
def test_statements_give_the_rows_again(con: Any, rows: list[list[str | None]]) -> None:
    text = written(table(con, rows), "insert", table="again")
    con.execute("CREATE OR REPLACE TABLE again (a VARCHAR, b VARCHAR)")
    if text:
        con.execute(text)
    assert [list(row) for row in con.sql("FROM again").fetchall()] == rows


@UNHURRIED
@given(rows=VALUES)
def test_csv_gives_the_rows_again(con: Any, rows: list[list[str | None]]) -> None:
    text = written(table(con, rows), "csv")
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["a", "b"], *([value or "" for value in row] for row in rows)]


@UNHURRIED
@given(rows=VALUES)
def test_json_gives_the_rows_again(con: Any, rows: list[list[str | None]]) -> None:
    read = json.loads(written(table(con, rows), "json"))
    assert [[row["a"], row["b"]] for row in read] == rows


@UNHURRIED
@given(rows=VALUES)
def test_a_drawn_table_has_a_line_per_row(con: Any, rows: list[list[str | None]]) -> None:
    relation = table(con, rows)
    assert len(written(relation, "box").split("\n")) == len(rows) + 5
    assert len(written(relation, "table").split("\n")) == len(rows) + 5


@UNHURRIED
@given(rows=VALUES)
def test_html_is_read_as_the_same_cells(con: Any, rows: list[list[str | None]]) -> None:
    cells: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag == "td":
                cells.append("")
            assert tag in ("tr", "th", "td")

        def handle_data(self, data: str) -> None:
            if cells and self.get_starttag_text() == "<td>":
                cells[-1] += data

    reader = Reader()
    for line in written(table(con, rows), "html", headers=False).split("</tr>\n"):
        reader.feed(line)
    reader.close()
    expected = ["NULL" if value is None else value for row in rows for value in row]
    assert cells == expected


SHAPES = [
    ("box", {}, "│ 日本 │ NULL │\n"),
    ("box", {"null": "·"}, "│ 日本 │ · │\n"),
    ("box", {"widths": (-6, 5)}, "│   日本 │ NULL  │\n"),
    ("table", {}, "| 日本 | NULL |\n"),
    ("column", {}, "日本  NULL\n"),
    ("list", {}, "a|b\n日本|NULL\n"),
    ("list", {"headers": False, "separator": ";", "row_end": "/"}, "日本;NULL/"),
    ("csv", {"separator": ";"}, "a;b\n日本;\n"),
    ("csv", {"null": "日本"}, 'a,b\n"日本",日本\n'),
    ("ascii", {}, "a\x1fb\x1e日本\x1fNULL\x1e"),
    ("tcl", {}, '"a" "b"\n"日本" "NULL"\n'),
    ("quote", {}, "'a','b'\n'日本',NULL\n"),
    ("latex", {}, "a & b \\\\\n\\hline\n日本 & NULL \\\\\n"),
    ("line", {}, "a = 日本\nb = NULL\n"),
    ("markdown", {}, "| a | b |\n| --- | --- |\n| 日本 | NULL |\n"),
    ("trash", {}, ""),
]


@pytest.mark.parametrize(("style", "look", "expected"), SHAPES)
def test_it_looks_so(con: Any, style: str, look: dict[str, Any], expected: str) -> None:
    assert expected in written(con.sql("SELECT '日本' AS a, NULL::VARCHAR AS b"), style, **look)


def test_numbers_that_are_none_stay_literals(con: Any) -> None:
    relation = con.sql(
        "SELECT 'nan'::DOUBLE AS d, '-inf'::FLOAT AS f, 1.50::DECIMAL(5, 2) AS n, true AS t"
    )
    assert written(relation, "quote", headers=False) == "'nan','-inf',1.50,true\n"


def test_latex_reads_its_own_characters_as_text(con: Any) -> None:
    shown = written(con.sql(r"SELECT '50% of $x_1 & {y}\z' AS a"), "latex")
    assert r"50\% of \$x\_1 \& \{y\}\textbackslash{}z \\" in shown


def test_duckbox_leaves_out_the_middle(con: Any) -> None:
    shown = written(con.sql("FROM range(100)"), "duckbox", max_rows=10)
    assert re.search(r"100 rows", shown)
    assert "50" not in shown
