"""DuckDB's errors about our functions, in the words and classes of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import duckdb

from quackllm import errors
from quackllm.engine.introspection import TABLES
from quackllm.udfs.registry import Functions

SUGGESTION = r'(?:\nDid you mean "[^"\n]*"\?)?'
UNKNOWN = re.compile(
    r'(?P<said>(?P<kind>\w+) Function with name "?(?P<name>\w+)"? does not exist!)' + SUGGESTION
)
UNKNOWN_TABLE = re.compile(
    r'(?P<said>Table with name "?(?P<name>\w+)"? does not exist!)' + SUGGESTION
)
OF_ANSWER = re.compile(r"(?P<condition> to BOOL)? when casting from source column __llm_\w+")
RAISED = re.compile(r"Python exception occurred while executing the UDF: (\w+): ", re.DOTALL)


@contextmanager
def in_our_words(functions: Functions) -> Iterator[None]:
    """Raise DuckDB's errors as they are, but for those that are about our functions.

    Of an unknown function or table, say which of ours may have been meant; of an answer that
    is not of the type wanted, how it would be. What our scalar function raised, raise again:
    DuckDB only quotes it.
    """
    try:
        yield
    except duckdb.CatalogException as error:
        raise _with_suggestion(error, functions) from None
    except duckdb.ConversionException as error:
        raise _about_answer(error) from None
    except duckdb.InvalidInputException as error:
        raise _as_raised(error) from None


def _with_suggestion(error: duckdb.Error, functions: Functions) -> duckdb.Error:
    message = str(error)
    found = UNKNOWN.search(message) or UNKNOWN_TABLE.search(message)
    hint = None if found is None else _meant(found, functions)
    if found is None or hint is None:
        return error
    return type(error)(f"{message[: found.start()]}{found['said']}\n{hint}{message[found.end() :]}")


def _meant(unknown: re.Match[str], functions: Functions) -> str | None:
    """Say what may have been meant by an unknown name; None where it does not look like ours."""
    name, kind = unknown["name"].lower(), unknown.groupdict().get("kind")
    if kind not in (None, "Table"):
        known = functions.suggest(name)
        if known is None and name.startswith(("llm", "ai_")) and functions.get(name) is None:
            return "FROM llm_functions() lists the LLM functions."
        return None if known is None else f'Did you mean "{known}"?'
    tables = [table.name for table in TABLES]
    if kind is None:
        return f"Did you mean {name}(), with parentheses?" if name in tables else None
    close = get_close_matches(name, tables, n=1, cutoff=0.8)
    return f'Did you mean "{close[0]}"?' if close else None


def _about_answer(error: duckdb.Error) -> duckdb.Error:
    """Say how an answer has another type than text, where a text that was answered is none."""
    message = str(error)
    found = OF_ANSWER.search(message)
    if found is None:
        return error
    hint = "An LLM function gives another type than text with return_type := '...'."
    if found["condition"]:
        hint = (
            "A model's text is no condition: use LLM_FILTER, or compare it, as in "
            "LLM_SENTIMENT(review) = 'positive'."
        )
    head, tail = message[: found.start()], message[found.end() :]
    return type(error)(f"{head}{found['condition'] or ''}\n{hint}{tail}")


def _as_raised(error: duckdb.Error) -> duckdb.Error:
    message = str(error)
    found = RAISED.search(message)
    kind = getattr(errors, found[1], None) if found else None
    if found is None or not (isinstance(kind, type) and issubclass(kind, errors.QuackLLMError)):
        return error
    return kind(message[found.end() :].partition("\n\nAt:\n")[0])  # DuckDB 1 adds a traceback
