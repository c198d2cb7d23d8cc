"""JSON documents of a schema, without white space, as a regular expression.

vLLM holds an answer to a JSON schema but lets the model put blanks and line ends between its
parts, unless the whole server was started otherwise (the request's `disable_any_whitespace`
is not looked at). They are tokens that say nothing, and small models write them without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_CHARACTER = r'([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})'
TEXT = f'"{_CHARACTER}*"'
_DAY = "[0-9]{4}-[01][0-9]-[0-3][0-9]"
_HEX = "[0-9a-fA-F]"
FORMATS = {
    "date": f'"{_DAY}"',
    "date-time": f'"{_DAY}T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](Z|[+-][0-2][0-9]:[0-5][0-9])"',
    "uuid": f'"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"',
}
# As many digits as the widest types of SQL have.
_INTEGER = "-?(0|[1-9][0-9]{0,38})"
SCALARS = {
    "null": "null",
    "boolean": "(true|false)",
    "integer": _INTEGER,
    "number": _INTEGER + r"(\.[0-9]{1,38})?([eE][+-]?[0-9]{1,3})?",
}
_KEYS = {
    "string": {"type", "format", "pattern"},
    "array": {"type", "items", "minItems", "maxItems"},
    "object": {"type", "properties", "required", "additionalProperties"},
}


class _Unknown(Exception):
    """A part of a schema that has no expression here."""


def compact_json_regex(schema: Mapping[str, Any]) -> str | None:
    """Return an expression of the schema's documents; None where it has parts unknown here.

    Those are documents of any form, maps of any keys, references and ranges. Members of an
    object come in the order of the schema, every one of them.
    """
    try:
        return _value(schema)
    except _Unknown:
        return None


def _value(schema: Mapping[str, Any]) -> str:
    if "enum" in schema and set(schema) <= {"type", "enum"}:
        values = [_escaped(json.dumps(value, ensure_ascii=False)) for value in schema["enum"]]
        return f"({'|'.join(values)})"
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not kinds:
        raise _Unknown
    found = [_of_kind(kind, {**schema, "type": kind}) for kind in kinds]
    return found[0] if len(found) == 1 else f"({'|'.join(found)})"


def _of_kind(kind: str, schema: Mapping[str, Any]) -> str:
    if kind in SCALARS and (kind == "null" or set(schema) == {"type"}):
        return SCALARS[kind]
    if kind not in _KEYS or not set(schema) <= _KEYS[kind]:
        raise _Unknown
    if kind == "string":
        return _text(schema)
    return _list(schema) if kind == "array" else _object(schema)


def _text(schema: Mapping[str, Any]) -> str:
    if "pattern" in schema:
        pattern = str(schema["pattern"])
        if not (pattern.startswith("^") and pattern.endswith("$")):
            raise _Unknown
        return f'"{pattern[1:-1]}"'
    if "format" not in schema:
        return TEXT
    if schema["format"] not in FORMATS:
        raise _Unknown
    return FORMATS[schema["format"]]


def _list(schema: Mapping[str, Any]) -> str:
    if "items" not in schema or schema.get("maxItems") == 0:
        raise _Unknown
    item, least = _value(schema["items"]), schema.get("minItems", 0)
    most = schema["maxItems"] - 1 if "maxItems" in schema else ""
    return rf"\[({item}(,{item}){{{max(least - 1, 0)},{most}}}){'' if least else '?'}\]"


def _object(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties")
    if not properties or schema.get("additionalProperties") is not False:
        raise _Unknown
    if set(schema.get("required", ())) != set(properties):
        raise _Unknown
    members = [
        f"{_escaped(json.dumps(name, ensure_ascii=False))}:{_value(part)}"
        for name, part in properties.items()
    ]
    return r"\{" + ",".join(members) + r"\}"


def _escaped(text: str) -> str:
    """Quote a text; `re.escape` would quote blanks too, which not every dialect takes."""
    return re.sub(r"([\\^$.|?*+()\[\]{}])", r"\\\1", text)
