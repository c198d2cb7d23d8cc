"""DuckDB's errors about our functions, in the words and classes of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from quackllm import errors
from quackllm.udfs.registry import Functions

UNKNOWN = re.compile(
    r'(Function with name "?(?P<name>\w+)"? does not exist!)(?:\nDid you mean "[^"\n]*"\?)?'
)
RAISED = re.compile(r"Python exception occurred while executing the UDF: (\w+): ", re.DOTALL)


@contextmanager
def in_our_words(functions: Functions) -> Iterator[None]:
    """Raise DuckDB's errors as they are, but for two.

    Of an unknown function, say which of ours may have been meant. What our scalar
    function raised, raise again: DuckDB only quotes it.
    """
    try:
        yield
    except duckdb.CatalogException as error:
        raise _with_suggestion(error, functions) from None
    except duckdb.InvalidInputException as error:
        raise _as_raised(error) from None


def _with_suggestion(error: duckdb.Error, functions: Functions) -> duckdb.Error:
    message = str(error)
    found = UNKNOWN.search(message)
    close = functions.suggest(found["name"]) if found else None
    if found is None or close is None:
        return error
    hint = f'{found[1]}\nDid you mean "{close}"?'
    return type(error)(message[: found.start()] + hint + message[found.end() :])


def _as_raised(error: duckdb.Error) -> duckdb.Error:
    message = str(error)
    found = RAISED.search(message)
    kind = getattr(errors, found[1], None) if found else None
    if found is None or not (isinstance(kind, type) and issubclass(kind, errors.QuackLLMError)):
        return error
    return kind(message[found.end() :].partition("\n\nAt:\n")[0])  # DuckDB 1 adds a traceback
