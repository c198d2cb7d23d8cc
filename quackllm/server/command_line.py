"""What the commands `quackllm` and `quackllm serve` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

import duckdb

SUCCESS = 0
FAILURE = 1
BAD_USAGE = 2


class UsageError(Exception):
    """The command line cannot be carried out as it was written."""


def parser_of(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser without options; `examples` stand below them in its help, as written."""
    return argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_settings(parser: argparse.ArgumentParser, scope: str = "") -> None:
    """Add the options that are settings: --model, --base-url and --set.

    scope: what else the help says of --set, such as ' for all sessions'.
    """
    parser.add_argument("--model", metavar="NAME", help="model name or path of a .gguf file")
    parser.add_argument("--base-url", metavar="URL", help="address of an OpenAI-compatible server")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="settings",
        help=f"set a setting of DuckDB or quackllm{scope} (repeatable)",
    )


def settings_of(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Read the names and values of `add_settings`, in the order in which they count.

    Raises `UsageError`.
    """
    if options.model is not None:
        yield "llm_model", options.model
    if options.base_url is not None:
        yield "llm_base_url", options.base_url
    for text in options.settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"--set takes NAME=VALUE, got {text!r}")
        yield name.strip(), value


def set_all(connection: Any, settings: Iterable[tuple[str, str]]) -> None:
    """Set settings of a connection by their names. Raises `UsageError` for one that cannot be."""
    for name, value in settings:
        quoted = value.replace("'", "''")
        try:
            connection.execute(f"SET {name} = '{quoted}'")
        except duckdb.Error as error:
            raise UsageError(f"cannot set {name}: {error}") from None
