"""docs/functions.md tells every function, parameter, alias, option and type, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quackllm.udfs.options import SHARED_OPTIONS
from quackllm.udfs.registry import Functions
from quackllm.udfs.type_parser import SUPPORTED

if TYPE_CHECKING:
    from quackllm.udfs.base import Function

PAGE = (Path(__file__).parents[2] / "docs" / "functions.md").read_text(encoding="utf-8")
SECTIONS = {
    section.split("\n", 1)[0]: section for section in re.split(r"^##+ ", PAGE, flags=re.M)[1:]
}
FUNCTIONS = [each for each in Functions.load() if each.declare.__module__.startswith("quackllm.")]


def options_shown(section: str) -> set[str]:
    """The names in the first column of the section's tables."""
    return set(re.findall(r"^\| `(\w+)` \|", section, flags=re.M))


def by_name(function: Function) -> str:
    return function.name


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_a_function_has_its_section(function: Function) -> None:
    section = SECTIONS[function.name.upper()]
    assert function.signature().replace("[", "").replace("]", "") in section
    assert re.findall(r"`((?:LLM|AI)_\w+)`", section.split("\n\n")[2])[: len(function.aliases)] == [
        alias.upper() for alias in function.aliases
    ]
    assert options_shown(section) == {option.name for option in function.options}
    assert f"{function.name.upper()}(" in "".join(re.findall(r"```sql(.*?)```", section, re.S)[1:])
    for parameter in function.parameters:
        assert f"`{parameter.name}`" in section


@pytest.mark.parametrize("function", FUNCTIONS, ids=by_name)
def test_a_function_is_in_the_overview(function: Function) -> None:
    assert f"](#{function.name})" in PAGE.split("## What all functions share")[0]


def test_shared_options_are_told_once_for_all() -> None:
    assert options_shown(SECTIONS["Options"]) == {option.name for option in SHARED_OPTIONS}


def test_no_function_is_told_that_does_not_exist() -> None:
    told = {title.lower() for title in SECTIONS if title.startswith(("LLM", "AI_"))}
    assert told == {function.name for function in FUNCTIONS}


def test_every_supported_type_is_told() -> None:
    for type_ in re.findall(r"[A-Z]+(?:\([^)]*\)|\[\])?", SUPPORTED):
        assert type_ in SECTIONS["Types"], type_
