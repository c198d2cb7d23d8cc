"""The pictures of EXPLAIN in the documentation show what EXPLAIN prints."""

from __future__ import annotations

import re

import duckdb
import pytest

from tools.explain_pictures import PICTURES, QUERY, SETTINGS, captured, drawn, words_of


@pytest.mark.skipif(duckdb.__version__.startswith("1."), reason="names the version it was made on")
def test_the_picture_of_a_plan_is_the_plan() -> None:
    shown = drawn(captured("EXPLAIN VERBOSE\n" + QUERY, SETTINGS), "quackllm")
    assert "alternatives rejected (expected)" in words_of(shown)
    assert words_of(shown) == words_of((PICTURES / "before.svg").read_text())


def test_the_picture_after_a_run_has_estimates_beside_what_happened() -> None:
    words = words_of((PICTURES / "after.svg").read_text())
    assert words.count("│ expected") == words.count("│ actual") >= 3


def test_a_picture_loads_nothing_from_elsewhere() -> None:
    for picture in PICTURES.glob("*.svg"):
        assert not re.search(r"@font-face|@import|href|url\((?!#)", picture.read_text())
