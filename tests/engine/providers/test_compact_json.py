"""JSON documents of a schema as a regular expression: all of them, and without white space."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.compact_json import compact_json_regex
from quackllm.engine.providers.constraints import ServerKind, constraint
from quackllm.testing.compact_schemas import schema_of
from quackllm.udfs.base import Binding, JsonAnswer
from quackllm.udfs.extract import EXTRACT

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(codec="utf-8", exclude_characters="\x7f")),
    "integer": st.integers(-(10**38), 10**38),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "null": st.none(),
}
NAMES = st.text(min_size=1, max_size=5)


def documents(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([of_kind(kind, schema) for kind in kinds])


def of_kind(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "array":
        return st.lists(documents(schema["items"]), max_size=3)
    if kind == "object":
        names = list(schema["properties"])
        parts = st.tuples(*map(documents, schema["properties"].values()))
        return parts.map(lambda values: dict(zip(names, values, strict=True)))
    return VALUES[kind]


def an_object(parts: dict[str, Any]) -> dict[str, Any]:
    required = list(parts)
    return {
        "type": "object", "properties": parts, "required": required, "additionalProperties": False,
    }  # fmt: skip


SCHEMAS = st.recursive(
    st.sampled_from(["string", "integer", "number", "boolean"]).flatmap(
        lambda kind: st.sampled_from([{"type": kind}, {"type": [kind, "null"]}])
    ),
    lambda inner: st.one_of(
        inner.map(lambda item: {"type": ["array", "null"], "items": item}),
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(an_object),
    ),
    max_leaves=5,
)


def compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


@given(st.data(), SCHEMAS)
def test_every_document_of_the_schema_fits_and_only_without_white_space(
    data: st.DataObject, schema: dict[str, Any]
) -> None:
    document = data.draw(documents(schema))
    regex = compact_json_regex(schema)
    assert regex is not None
    assert re.fullmatch(regex, compact(document))
    spaced = json.dumps(document, indent=1, ensure_ascii=False)
    assert bool(re.fullmatch(regex, spaced)) == (spaced == compact(document))


@given(st.text())
def test_what_fits_a_text_is_json(text: str) -> None:
    regex = compact_json_regex({"type": "string"})
    assert regex is not None
    if re.fullmatch(regex, text):
        assert isinstance(json.loads(text), str)


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        ({"type": ["string", "null"], "enum": ["a+", None]}, '"a+"', '"aa"'),
        ({"type": "string", "format": "date"}, '"2026-11-21"', '"21.11.2026"'),
        ({"type": "string", "format": "date-time"}, '"2026-11-21T07:00:00Z"', '"2026-11-21"'),
        ({"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}, '"07:30"', '"7:30"'),
        (
            {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}, "maxItems": 2},
            '["x","y"]',
            '["x","y","x"]',
        ),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3},
            "[true,false,true]",
            "[true,false]",
        ),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
            "[true,false,true]",
            "[true]",
        ),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 1}, "[true]", "[]"),
    ],
)
def test_texts_of_a_form(schema: dict[str, Any], fits: str, does_not: str) -> None:
    regex = compact_json_regex(schema)
    assert regex is not None
    assert re.fullmatch(regex, fits)
    assert not re.fullmatch(regex, does_not)
    in_object = compact_json_regex(an_object({"x": schema}))
    assert in_object is not None
    read = schema_of(in_object)
    assert read is not None
    assert json.loads(read)["properties"]["x"] == schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "array"},
        {"type": "integer", "minimum": 3},
        {"type": "string", "format": "ipv4"},
        {"$ref": "#/$defs/n"},
        an_object({"x": {"type": "object", "additionalProperties": True}}),
    ],
)
def test_what_has_no_expression_is_left_to_the_schema(schema: dict[str, Any]) -> None:
    assert compact_json_regex(schema) is None
    form = JsonAnswer(json.dumps(schema))
    assert constraint(form, ServerKind.VLLM).body == {"structured_outputs": {"json": schema}}


def test_an_extraction_is_held_to_documents_that_it_reads() -> None:
    options = {option.name: option.default for option in EXTRACT.options}
    fields = {"price": "DOUBLE", "tags": ["VARCHAR"], "day": "DATE", "maker": {"name": "VARCHAR"}}
    declaration = EXTRACT.declare(Binding({"fields": fields}, options, ("text",)))
    body = constraint(declaration.answer, ServerKind.VLLM).body
    answer = '{"price":1.5,"tags":["a","b"],"day":"2026-11-21","maker":{"name":null}}'
    assert re.fullmatch(body["structured_outputs"]["regex"], answer)
    assert json.loads(declaration.parse(answer) or "")["price"] == 1.5


@given(st.dictionaries(NAMES, SCHEMAS, min_size=1, max_size=3).map(an_object))
def test_a_fake_server_reads_the_schema_back(schema: dict[str, Any]) -> None:
    regex = compact_json_regex(schema)
    assert regex is not None
    assert json.loads(schema_of(regex) or "") == schema
