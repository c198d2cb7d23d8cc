"""On a build of sqlglot that we cannot extend, a person is told what to do at once."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.optimizer.sql import DIALECT


class CompiledParser:
    """Stands for a parser that inherits from one that mypyc has compiled."""

    def __init__(self, **_: Any) -> None:
        raise TypeError("interpreted classes cannot inherit from compiled")


def test_a_compiled_sqlglot_is_refused_with_the_package_to_remove(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DIALECT, "parser_class", CompiledParser)
    with pytest.raises(duckdb.Error, match="pip uninstall sqlglotc"):
        quackllm.connect()
