"""Imports point one way.

server → engine → {optimizer, kvcache_reorder}, optimizer → udfs → {clustering, errors}.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PACKAGE = Path(__file__).parent.parent / "quackllm"

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "kvcache_reorder": frozenset(),
    "clustering": frozenset(),
    "udfs": frozenset({"clustering", "errors"}),
    "optimizer": frozenset({"udfs", "errors"}),
    "engine": frozenset({"optimizer", "kvcache_reorder", "clustering", "udfs", "errors"}),
    "testing": frozenset({"engine", "optimizer", "udfs", "errors"}),
    "server": frozenset({"engine", "optimizer", "udfs", "errors", ""}),
    "__main__": frozenset({"server"}),
    "": frozenset({"engine", "errors", "server"}),
}
"""Room → rooms it may import, itself aside. '' is the package's own `__init__`: the door to
the others, that of notebooks (`%load_ext quackllm`) included, which is opened when asked for."""


def room_of(module: str) -> str:
    """Return the room of a dotted module name of ours."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of ours that a file imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from quackllm import engine` imports the room, not only the package.
            rooms = [f"quackllm.{alias.name}" for alias in node.names]
            known = [room for room in rooms if room_of(room) in MAY_IMPORT]
            names = known if node.module == "quackllm" and known else [node.module or ""]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "quackllm")


def violations(sources: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line per import that points the wrong way, of (module, source) pairs."""
    found = []
    for module, source in sources:
        room = room_of(module)
        for imported in imported_modules(ast.parse(source)):
            target = room_of(imported)
            if target != room and target not in MAY_IMPORT[room]:
                found.append(f"{module} imports {imported}")
    return found


def modules_of_the_package() -> Iterator[tuple[str, str]]:
    """Yield (dotted name, source) of every module of quackllm."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["quackllm", *path.relative_to(PACKAGE).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path.read_text(encoding="utf-8")


def test_no_import_points_the_wrong_way() -> None:
    modules = list(modules_of_the_package())
    assert len(modules) > 20, "the walk found the package"
    assert violations(modules) == []


def test_the_package_alone_loads_no_server() -> None:
    code = "import sys, quackllm; print([m for m in sys.modules if 'quackllm.server' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_room_is_in_the_table() -> None:
    assert {room_of(module) for module, _ in modules_of_the_package()} <= set(MAY_IMPORT)


def test_an_arrow_the_wrong_way_is_found() -> None:
    bad = [
        ("quackllm.udfs.bad", "from quackllm.engine.events import Event"),
        ("quackllm.optimizer.rules.bad", "def f():\n    import quackllm.engine"),
        ("quackllm.kvcache_reorder.bad", "from quackllm.errors import QuackLLMError"),
        ("quackllm.engine.bad", "from quackllm import connect"),
        ("quackllm.engine.worse", "from quackllm import server"),
    ]
    assert violations(bad) == [
        "quackllm.udfs.bad imports quackllm.engine.events",
        "quackllm.optimizer.rules.bad imports quackllm.engine",
        "quackllm.kvcache_reorder.bad imports quackllm.errors",
        "quackllm.engine.bad imports quackllm",
        "quackllm.engine.worse imports quackllm.server",
    ]


def test_imports_the_right_way_are_left_alone() -> None:
    good = [
        ("quackllm.server.good", "from quackllm.engine.progress import ProgressBar"),
        ("quackllm.engine.good", "import duckdb\nfrom quackllm.optimizer.plan import Plan"),
        ("quackllm.udfs.good", "from quackllm.udfs.base import Call\nimport quackllm.errors"),
    ]
    assert violations(good) == []
