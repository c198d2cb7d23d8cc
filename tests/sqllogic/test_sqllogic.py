"""Promise 1: a .test file replayed through quackllm gives what plain DuckDB gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sqllogic.records import Loop, Record, UnsupportedError, read, unrolled
from tests.sqllogic.replay import replay
from tests.sqllogic.sides import Plain
from tests.sqllogic.values import compare, digest, same

CASES = sorted((Path(__file__).parent / "cases").glob("*.test"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_file_holds_on_both_sides_and_the_sides_agree(path: Path) -> None:
    report = replay(path)
    assert report.failed == []
    assert report.skipped is None
    assert report.passed > 0


def test_loops_are_unrolled_with_their_values() -> None:
    inner = "loop i 0 2\n\nstatement ok\nSELECT ${i}::${t}\n\nendloop\n\n"
    records = read(f"foreach t int text\n\n{inner}endloop\n")
    assert isinstance(records[0], Loop)
    assert [record.sql for record in unrolled(records)] == [
        "SELECT 0::int",
        "SELECT 1::int",
        "SELECT 0::text",
        "SELECT 1::text",
    ]


def test_expected_results_end_at_a_blank_line() -> None:
    (record,) = read("query II rowsort\nSELECT 1,\n  2\n----\n1\t2\n\n# a comment\n")
    assert record == Record("query", ("II", "rowsort"), 1, "SELECT 1,\n  2", ("1\t2",))


def test_loop_without_an_end_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="endloop"):
        read("loop i 0 2\n\nstatement ok\nSELECT 1\n")


@pytest.mark.parametrize(
    ("value", "wanted", "type_", "equal"),
    [
        ("true", "1", "BOOLEAN", True),
        ("false", "1", "BOOLEAN", False),
        ("1.0", "1", "DOUBLE", True),
        ("1.0", "1.1", "DOUBLE", False),
        ("1", "1.0", "VARCHAR", False),
        ("NULL", "0", "INTEGER", False),
        ("abc", "<REGEX>:a.c", "VARCHAR", True),
        ("abc", "<!REGEX>:a.c", "VARCHAR", False),
    ],
)
def test_values_compare_as_in_duckdb(value: str, wanted: str, type_: str, equal: bool) -> None:
    assert same(value, wanted, type_) is equal


def test_results_may_be_hashes() -> None:
    rows = [["2"], ["1"]]
    line = f"2 values hashing to {digest(rows, 'rowsort')}"
    assert compare(rows, ["INTEGER"], [line], "rowsort") == ""
    assert compare([["2"], ["3"]], ["INTEGER"], [line], "rowsort") != ""


def test_wrong_expectation_fails_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.test"
    path.write_text(
        "query I\nSELECT 1\n----\n2\n\nstatement error\nSELECT 1\n\nstatement ok\nSELEC\n"
    )
    report = replay(path, [Plain()])
    assert [each.split(":")[0] for each in report.failed] == ["line 1", "line 6", "line 9"]


def test_what_cannot_be_run_is_skipped_visibly(tmp_path: Path) -> None:
    path = tmp_path / "skipped.test"
    path.write_text("statement ok\nSELECT 1\n\nrequire an_extension_that_is_not_there\n")
    report = replay(path, [Plain()])
    assert (report.passed, report.skipped) == (1, "needs an_extension_that_is_not_there")
