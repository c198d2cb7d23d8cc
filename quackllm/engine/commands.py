"""Statements that are ours alone: SET llm_..., RESET llm_..., CREATE MODEL, DROP MODEL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from quackllm.engine.engine import NamedModel
from quackllm.engine.providers.config import Secret
from quackllm.engine.settings import PREFIX, Settings
from quackllm.engine.statement import Statement
from quackllm.errors import BindError

SET = re.compile(
    rf"\s*(?:SET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?|PRAGMA\s+)({PREFIX}\w+)\s*(?:=|\bTO\b)\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
RESET = re.compile(rf"\s*RESET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?({PREFIX}\w+)\s*$", re.IGNORECASE)
CREATE_MODEL = re.compile(
    r"\s*CREATE\s+(OR\s+REPLACE\s+)?MODEL\s+(IF\s+NOT\s+EXISTS\s+)?(\"[^\"]+\"|\w+)\s*\((.*)\)\s*$",
    re.IGNORECASE | re.DOTALL,
)
DROP_MODEL = re.compile(r"\s*DROP\s+MODEL\s+(IF\s+EXISTS\s+)?(\"[^\"]+\"|\w+)\s*$", re.IGNORECASE)
CURRENT_SETTING = re.compile(rf"\bcurrent_setting\s*\(\s*'({PREFIX}\w+)'\s*\)", re.IGNORECASE)
OURS = re.compile(
    rf"^\s*(?:(?:SET|RESET|PRAGMA)\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?{PREFIX}"
    r"|(?:CREATE\s+(?:OR\s+REPLACE\s+)?|DROP\s+)MODEL\b)",
    re.IGNORECASE,
)

Evaluate = Callable[[str], Any]
"""Evaluates a constant SQL expression."""


def changed_settings(sql: str, settings: Settings, evaluate: Evaluate) -> Settings | None:
    """Return the settings after a SET or RESET of ours; None for any other statement."""
    found = SET.match(sql)
    if found:
        written = found[2].strip()
        bare = re.fullmatch(r"[A-Za-z_]\w*", written)
        value = written if bare else evaluate(written)
        if value is None or (bare and written.lower() == "default"):
            return settings.reset(found[1])
        return settings.set(found[1], value)
    found = RESET.match(sql)
    return settings.reset(found[1]) if found else None


def changed_models(statement: Statement, models: dict[str, NamedModel], evaluate: Evaluate) -> bool:
    """Carry out CREATE MODEL or DROP MODEL; False for any other statement."""
    created = CREATE_MODEL.match(statement.sql)
    dropped = DROP_MODEL.match(statement.sql)
    if created:
        replace_it, if_missing, written, body = created.groups()
        name = written.strip('"')
        if name.lower() in models and not replace_it:
            if if_missing:
                return True
            raise BindError(f'Catalog Error: Model with name "{name}" already exists!')
        models[name.lower()] = _model(name, body, evaluate)
    elif dropped:
        name = dropped[2].strip('"')
        if models.pop(name.lower(), None) is None and not dropped[1]:
            raise BindError(f'Catalog Error: Model with name "{name}" does not exist!')
    elif re.match(r"\s*(CREATE|DROP)\b.*\bMODEL\b", statement.sql, re.IGNORECASE | re.DOTALL):
        raise BindError(
            "Parser Error: expected CREATE MODEL name (model '...', base_url '...', "
            "api_key '...') or DROP MODEL name"
        )
    return bool(created or dropped)


def _model(name: str, body: str, evaluate: Evaluate) -> NamedModel:
    known = [f.name for f in fields(NamedModel) if f.name != "name"]
    model = NamedModel(name)
    members = re.compile(r"\s*(\w+)\s+('(?:[^']|'')*')\s*(?:,|$)")
    at = 0
    while at < len(body.rstrip()):
        found = members.match(body, at)
        if found is None:
            raise BindError(
                f"Parser Error: in CREATE MODEL {name}: expected key 'value' pairs at "
                f"{body[at:].strip()[:40]!r}"
            )
        key, value = found[1].lower(), evaluate(found[2])
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise BindError(
                f"Binder Error: CREATE MODEL {name}: unknown key {key}{hint} "
                f"Keys: {', '.join(known)}"
            )
        model = replace(model, **{key: Secret(value) if key == "api_key" else value})
        at = found.end()
    return model


def with_current_settings(sql: str, settings: Settings) -> str:
    """Replace current_setting('llm_...') by its value."""
    return CURRENT_SETTING.sub(
        lambda found: "'" + settings.shown(found[1]).replace("'", "''") + "'", sql
    )
