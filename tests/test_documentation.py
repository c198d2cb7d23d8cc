"""What a person can call, set or type is documented, and what is documented exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from quackllm.engine.introspection import TABLES
from quackllm.engine.settings import PREFIX, Settings
from quackllm.server import serve
from quackllm.server.cli import build_parser
from quackllm.udfs.registry import Functions

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")})


def read(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def first_cells(text: str) -> list[str]:
    """Return what stands in backquotes in the first cell of table rows."""
    return [
        code
        for line in text.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([^`]+)`", line.split("|")[1])
    ]


def test_every_setting_is_documented_with_its_default() -> None:
    text = read("docs/settings.md")
    for name, default, description in Settings().rows():
        shown = f"`{default}`" if default else ""
        line = f"| `{name}` | {shown} | {description} |"
        assert line in text, f"docs/settings.md should have the line: {line}"


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {name for name, _, _ in Settings().rows()}
    documented = [cell for cell in first_cells(read("docs/settings.md")) if PREFIX in cell]
    assert set(documented) == known


def test_every_flag_of_the_command_is_documented() -> None:
    text = read("docs/cli.md")
    flags = [flag for action in build_parser()._actions for flag in action.option_strings]
    assert len(flags) > 10
    assert [flag for flag in flags if f"`{flag}" not in text] == []


def test_every_flag_of_the_server_is_documented_and_no_other() -> None:
    text = read("docs/server.md")
    flags = {flag for action in serve.build_parser()._actions for flag in action.option_strings}
    assert [flag for flag in sorted(flags) if f"`{flag}" not in text] == []
    documented = {cell.split()[0] for cell in first_cells(text) if cell.startswith("-")}
    assert documented - flags == set()


def test_no_flag_is_documented_that_does_not_exist() -> None:
    flags = {flag for action in build_parser()._actions for flag in action.option_strings}
    documented = {
        cell.split()[0] for cell in first_cells(read("docs/cli.md")) if cell.startswith("-")
    }
    assert documented - flags == set()


def test_every_function_is_documented_in_the_list_and_the_readme() -> None:
    functions, readme = read("docs/functions.md"), read("README.md")
    for function in Functions.load():
        assert f"`{function.name.upper()}(" in functions
        assert f"`{function.name.upper()}(" in readme


def test_every_table_of_quackllm_is_named_in_the_readme() -> None:
    readme = read("README.md")
    assert [table.name for table in TABLES if f"{table.name}()" not in readme] == []


def test_every_make_target_is_in_make_help() -> None:
    makefile = read("Makefile")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    listed = re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())


def test_the_targets_that_the_readme_names_exist() -> None:
    [phony] = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)
    named = re.findall(r"^make ([a-z0-9-]+)", read("README.md"), re.MULTILINE)
    assert named
    assert set(named) <= set(phony.split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [
        link for link in links if "://" not in link and not (document.parent / link).exists()
    ]
    assert missing == []


def test_the_session_of_the_readme_is_the_one_that_make_demo_runs() -> None:
    session = read("README.md").split("## A first session")[1].split("\n## ")[0]
    statements = re.findall(r"```sql\n(.*?)\n```", session, re.DOTALL)
    assert len(statements) >= 3
    demo = read("sql_examples/demo.sql")
    assert [statement for statement in statements if statement not in demo] == []


def test_every_document_is_in_the_index() -> None:
    index = read("docs/README.md")
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in index] == []


def test_the_examples_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"sql_examples/[\w./]+\.sql", read("README.md")))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
