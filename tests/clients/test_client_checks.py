"""The table of checks says no more than there is, and every family is as large as promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.client_checks import FAMILIES, collected

pytestmark = pytest.mark.clients

PAGE = Path(__file__).parents[2] / "docs" / "clients" / "README.md"
FEWEST = 60


def test_the_table_says_no_more_than_there_is() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## How many checks")[2]
    said = {name: int(count) for name, count in re.findall(r"^\| ([^|]+) \| (\d+) \|", text, re.M)}
    assert set(said) == {name for name, _ in FAMILIES}
    counts = collected(file for _, files in FAMILIES for file in files)
    for name, files in FAMILIES:
        there = sum(counts[file] for file in files)
        if all(counts[file] for file in files):  # else it is not installed here
            assert said[name] <= there, name
            assert there >= FEWEST, name
