"""The room is usable alone: NumPy and the standard library, Arrow only where it came in."""

import ast
from pathlib import Path

import pytest

import quackllm.kvcache_reorder as room

ROOM = "quackllm.kvcache_reorder"
FILES = sorted(Path(room.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_else_of_ours_and_no_arrow_at_import(path: Path) -> None:
    tree = ast.parse(path.read_text())
    top = {name for node in tree.body for name in imported(node)}
    anywhere = {name for node in ast.walk(tree) for name in imported(node)}
    ours = {name for name in anywhere if name.startswith("quackllm")}
    assert all(name == ROOM or name.startswith(ROOM + ".") for name in ours)
    assert not {name for name in top if name.split(".")[0] in ("pyarrow", "pandas")}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []
