"""DuckDB's error about an unknown function, with ours among what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from quackllm.udfs.registry import Functions

UNKNOWN = re.compile(
    r'(Function with name "?(?P<name>\w+)"? does not exist!)(?:\nDid you mean "[^"\n]*"\?)?'
)


@contextmanager
def suggesting(functions: Functions) -> Iterator[None]:
    """Name the function of ours that was meant, where one is close; raise as DuckDB does."""
    try:
        yield
    except duckdb.CatalogException as error:
        message = str(error)
        found = UNKNOWN.search(message)
        close = functions.suggest(found["name"]) if found else None
        if found is None or close is None:
            raise
        hint = f'{found[1]}\nDid you mean "{close}"?'
        raise type(error)(message[: found.start()] + hint + message[found.end() :]) from None
