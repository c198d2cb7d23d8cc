"""Statements that are ours alone: SET llm_..., RESET llm_..., CREATE MODEL, DROP MODEL.

`clear_cache` carries out CALL llm_clear_cache(...).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from sqlglot.tokenizer_core import TokenType

from quackllm.engine.engine import NamedModel
from quackllm.engine.providers.config import Secret
from quackllm.engine.secrets import TEXT, constant
from quackllm.engine.settings import PREFIX, Settings, addresses, price
from quackllm.engine.statement import Statement
from quackllm.errors import BindError
from quackllm.optimizer.sql import literal

SET = re.compile(
    rf"\s*(?:SET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?|PRAGMA\s+)({PREFIX}\w+)\s*(?:=|\bTO\b)\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
RESET = re.compile(rf"\s*RESET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?({PREFIX}\w+)\s*$", re.IGNORECASE)
NAME = r'("(?:[^"]|"")+"|\w+)'
CREATE_MODEL = re.compile(
    rf"\s*CREATE\s+(OR\s+REPLACE\s+)?MODEL\s+(IF\s+NOT\s+EXISTS\s+)?{NAME}\s*\((.*)\)\s*$",
    re.IGNORECASE | re.DOTALL,
)
DROP_MODEL = re.compile(rf"\s*DROP\s+MODEL\s+(IF\s+EXISTS\s+)?{NAME}\s*$", re.IGNORECASE)
CURRENT_SETTING = re.compile(rf"\bcurrent_setting\s*\(\s*'({PREFIX}\w+)'\s*\)", re.IGNORECASE)
MEMBER = re.compile(r"\s*(\w+)\s*('(?:[^']|'')*'|\$\w+|[\d.]+)\s*(?:,(?!\s*$)|$)")
OURS = re.compile(
    rf"^\s*(?:(?:SET|RESET|PRAGMA)\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?{PREFIX}"
    r"|CALL\s+llm_clear_cache\b"
    r"|(?:CREATE\s+(?:OR\s+REPLACE\s+)?|DROP\s+)MODEL\b)",
    re.IGNORECASE,
)

KEY = re.compile("api_key", re.IGNORECASE)
HOLDS_KEY = re.compile(
    rf"\b{PREFIX}api_key\b|\bMODEL\b.*\bapi_key\b|\bSECRET\b", re.IGNORECASE | re.DOTALL
)
"""In a text that holds this, an error must not repeat the text."""

LOOK_UP = re.compile(r"\$\w+|get(?:variable|env)\s*\(\s*'\w+'\s*\)", re.IGNORECASE)
"""A parameter, or a value by its name: no key is written out in it."""


def without_keys(text: str) -> str:
    """Return a script with '***' for every text in quotes, if a statement in it gives a key."""
    return TEXT.sub("'***'", text) if HOLDS_KEY.search(text) else text


Evaluate = Callable[[str], Any]
"""Evaluates a constant SQL expression."""


def is_command(statement: Statement) -> bool:
    """Whether a statement is one of ours."""
    return bool(OURS.match(statement.without_comments))


def changed_settings(
    statement: Statement, settings: Settings, evaluate: Evaluate
) -> Settings | None:
    """Return the settings after a SET or RESET of ours; None for any other statement."""
    sql = statement.without_comments
    found = SET.match(sql)
    if found:
        value = _key(found[2].strip(), evaluate) if KEY.search(found[1]) else None
        if value is None:
            value = _value(found[2].strip(), evaluate)
        return settings.reset(found[1]) if value is None else settings.set(found[1], value)
    found = RESET.match(sql)
    return settings.reset(found[1]) if found else None


def _key(written: str, evaluate: Evaluate) -> Any:
    """Read the value of a key; None for a name, which `_value` reads.

    DuckDB evaluates nothing in which a key is written out: it would stand in its query log.
    Raises `BindError` for anything but a text, a parameter and a look-up of one by name.
    """
    if re.fullmatch(r"\w+", written) and not written.isdigit():
        return None
    if TEXT.fullmatch(written) or LOOK_UP.fullmatch(written):
        return constant(written, evaluate)
    raise BindError("Parser Error: llm_api_key takes a text in quotes, or a parameter")


def _value(written: str, evaluate: Evaluate) -> Any:
    """Read a value: a name stands for itself, DEFAULT and NULL for no value."""
    if written.upper() in ("DEFAULT", "NULL"):
        return None
    if re.fullmatch(r"[A-Za-z_]\w*", written):
        return written
    if re.fullmatch(r'"(?:[^"]|"")+"', written):
        return written[1:-1].replace('""', '"')
    return constant(written, evaluate)


def change_models(statement: Statement, models: dict[str, NamedModel], evaluate: Evaluate) -> None:
    """Carry out CREATE MODEL or DROP MODEL.

    Raises `BindError` for what is neither; it repeats nothing that may be a key.
    """
    sql = statement.without_comments
    created = CREATE_MODEL.match(sql)
    dropped = DROP_MODEL.match(sql)
    if created:
        replace_it, if_missing, written, body = created.groups()
        name = _unquoted(written)
        if name.lower() in models and not replace_it:
            if if_missing:
                return
            raise BindError(
                f'Catalog Error: Model with name "{name}" already exists!\n'
                f"CREATE OR REPLACE MODEL {written} (...) gives it another meaning."
            )
        models[name.lower()] = _model(name, body, evaluate)
    elif dropped:
        name = _unquoted(dropped[2])
        if models.pop(name.lower(), None) is None and not dropped[1]:
            raise BindError(f'Catalog Error: Model with name "{name}" does not exist!')
    elif statement.first_word in ("CREATE", "DROP"):
        raise BindError(
            "Parser Error: expected CREATE MODEL name (model '...', base_url '...', "
            "api_key '...') or DROP MODEL name"
        )
    else:
        raise BindError(
            f"Parser Error: expected SET {PREFIX}name = value or RESET {PREFIX}name; "
            f"FROM {PREFIX}settings() lists the settings"
        )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _model(name: str, body: str, evaluate: Evaluate) -> NamedModel:
    known = [f.name for f in fields(NamedModel) if f.name != "name"]
    model = NamedModel(name)
    at = 0
    while at < len(body.rstrip()):
        found = MEMBER.match(body, at)
        if found is None:
            word = re.match(r"\s*(\w*)\s*(=?)", body[at:])
            place = f" at {word[1]}" if word and word[1] else ""
            hint = f": {word[1]} '...', without =" if word and word[2] else ""
            raise BindError(
                f"Parser Error: in CREATE MODEL {name}: expected key 'value' pairs, "
                f"separated by commas{place}{hint}"
            )
        key, value = found[1].lower(), constant(found[2], evaluate)
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise BindError(
                f"Binder Error: CREATE MODEL {name}: unknown key {key}{hint}; "
                f"keys are {', '.join(known)}"
            )
        model = replace(model, **{key: _member(name, key, value)})
        at = found.end()
    return model


def _member(name: str, key: str, value: Any) -> Any:
    if key == "api_key":
        return Secret(str(value))
    if key != "base_url" and not key.endswith("_price"):
        return value
    try:
        return addresses(value) if key == "base_url" else price(value)
    except ValueError as error:
        raise BindError(f"Binder Error: CREATE MODEL {name}: {key} {error}") from None


def with_current_settings(statement: Statement, settings: Settings) -> str:
    """Return the statement's text with current_setting('llm_...') replaced by the value."""
    sql, tokens = statement.sql, statement.tokens
    if not CURRENT_SETTING.search(sql):
        return sql
    parts: list[str] = []
    at = 0
    for index, token in enumerate(tokens[:-3]):
        start = token.start - statement.offset
        end = tokens[index + 3].end + 1 - statement.offset
        if token.token_type == TokenType.VAR:
            found = CURRENT_SETTING.fullmatch(sql[start:end])
            if found:
                value = literal(settings.shown(found[1]))
                parts.extend((sql[at:start], value))
                at = end
    return "".join([*parts, sql[at:]])
