"""The JSON schema whose documents a regular expression of `compact_json_regex` admits.

A fake vLLM is told only the expression, and answers with documents of the schema.
"""

from __future__ import annotations

import json
import re
from typing import Any

from quackllm.engine.providers.compact_json import FORMATS, SCALARS, TEXT

_UNIT = re.compile(r"\\?.", re.DOTALL)
_TIMES = re.compile(r"\{(\d+),(\d*)\}\)(\??)\\\]")
_UNESCAPED = re.compile(r"(?<!\\)[\[({]")


def schema_of(regex: str) -> str | None:
    """Return the schema as JSON; None for an expression of anything but objects."""
    if not regex.startswith(r"\{"):
        return None
    schema, end = _value(regex, 0)
    assert end == len(regex), f"not read beyond character {end}: {regex}"
    return json.dumps(schema)


def _value(regex: str, at: int) -> tuple[dict[str, Any], int]:
    """Return the schema of the value whose expression begins there, and where that ends."""
    for kind in ("boolean", "number", "integer", "null"):
        if regex.startswith(SCALARS[kind], at):
            return {"type": kind}, at + len(SCALARS[kind])
    if regex.startswith(TEXT, at):
        return {"type": "string"}, at + len(TEXT)
    for name, expression in FORMATS.items():
        if regex.startswith(expression, at):
            return {"type": "string", "format": name}, at + len(expression)
    if regex.startswith(r"\{", at):
        return _object(regex, at + 2)
    if regex.startswith(r"\[(", at):
        return _list(regex, at + 3)
    if regex[at] == "(":
        return _one_of(regex, at + 1)
    return _literal(regex, at)


def _object(regex: str, at: int) -> tuple[dict[str, Any], int]:
    properties: dict[str, Any] = {}
    while not regex.startswith(r"\}", at):
        at += regex[at] == ","
        name, at = _quoted(regex, at)
        properties[json.loads(name)], at = _value(regex, at + len(":"))
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {**schema, "additionalProperties": False}, at + 2


def _list(regex: str, at: int) -> tuple[dict[str, Any], int]:
    item, end = _value(regex, at)
    # What follows says the item again, behind a comma, and how often.
    times = _TIMES.match(regex, end + 2 + (end - at) + 1)
    assert times is not None, regex[end:]
    schema: dict[str, Any] = {"type": "array", "items": item}
    if not times[3]:
        schema["minItems"] = int(times[1]) + 1
    if times[2]:
        schema["maxItems"] = int(times[2]) + 1
    return schema, times.end()


def _one_of(regex: str, at: int) -> tuple[dict[str, Any], int]:
    """Read alternatives: texts of an enumeration, or a type and null."""
    found: list[dict[str, Any]] = []
    while regex[at] != ")":
        at += regex[at] == "|"
        schema, at = _value(regex, at)
        found.append(schema)
    kinds = list(dict.fromkeys(each["type"] for each in found))
    merged = {key: value for each in reversed(found) for key, value in each.items()}
    merged["type"] = kinds[0] if len(kinds) == 1 else kinds
    if any("enum" in each for each in found):
        merged["enum"] = [value for each in found for value in each.get("enum", [None])]
    return merged, at + 1


def _literal(regex: str, at: int) -> tuple[dict[str, Any], int]:
    text, end = _quoted(regex, at)
    if _UNESCAPED.search(regex, at, end):
        return {"type": "string", "pattern": f"^{regex[at + 1 : end - 1]}$"}, end
    return {"type": "string", "enum": [json.loads(text)]}, end


def _quoted(regex: str, at: int) -> tuple[str, int]:
    """Return the JSON string that an expression spells out there, and where that ends."""
    units, text = _UNIT.finditer(regex, at), ""
    for unit in units:
        text += unit[0][-1]
        if unit[0] == "\\\\":  # JSON's own escape, of what follows
            text += next(units)[0][-1]
        elif unit[0] == '"' and len(text) > 1:
            return text, unit.end()
    raise AssertionError(f"a text without an end: {regex[at:]}")
