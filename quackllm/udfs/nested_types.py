"""SQL types whose answers are JSON documents: JSON, lists, STRUCT and MAP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quackllm.errors import InvalidAnswer
from quackllm.udfs.types import JsonSchema, SqlType, check_utf8, nullable, quote_name, reject

_JSON_DEPTH = 100


@dataclass(frozen=True)
class Json(SqlType):
    """JSON: any document."""

    @property
    def nested(self) -> bool:
        return True

    def to_duckdb(self) -> str:
        return "JSON"

    def describe(self) -> str:
        return "JSON"

    def json_schema(self) -> JsonSchema:
        # Spelled out because the engines of constrained decoding read what is left out
        # differently: to llama.cpp the empty schema is an object, and to xgrammar, of
        # vLLM, an array without `items` is empty. Arrays nest to the third level.
        kinds = ["object", "array", "string", "number", "boolean", "null"]
        schema: JsonSchema = {"type": kinds, "additionalProperties": True}
        for _ in range(2):
            schema = {**schema, "items": schema}
        return schema

    def canonical(self, value: Any, path: str = "$") -> Any:
        """Accept any value of at most 100 levels."""
        _check_json(value, path, _JSON_DEPTH)
        return value


def _check_json(value: Any, path: str, depth: int) -> None:
    if depth == 0:
        raise InvalidAnswer(f"{path}: JSON is nested more than {_JSON_DEPTH} levels deep")
    if isinstance(value, str):
        check_utf8(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_utf8(key, path)
            _check_json(item, f"{path}.{key}", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(item, f"{path}[{index}]", depth - 1)


@dataclass(frozen=True)
class ListType(SqlType):
    """A list; its items are never null."""

    item: SqlType

    @property
    def nested(self) -> bool:
        return True

    def to_duckdb(self) -> str:
        return f"{self.item.to_duckdb()}[]"

    def describe(self) -> str:
        return f"list of {self.item.describe()}"

    def json_schema(self) -> JsonSchema:
        return {"type": "array", "items": self.item.json_schema()}

    def canonical(self, value: Any, path: str = "$") -> list[Any]:
        """Accept an array of valid items."""
        if not isinstance(value, list):
            reject(path, value, "a list")
        return [self.item.canonical(each, f"{path}[{at}]") for at, each in enumerate(value)]

    def hollow(self) -> list[Any]:
        return [self.item.hollow()]


@dataclass(frozen=True)
class StructField:
    """A field of a STRUCT; the description is for the model, not part of the SQL type."""

    name: str
    type: SqlType
    description: str = ""


@dataclass(frozen=True)
class StructType(SqlType):
    """A STRUCT; every field may be null."""

    fields: tuple[StructField, ...]

    @property
    def nested(self) -> bool:
        return True

    def to_duckdb(self) -> str:
        # Always quoted: which words DuckDB reserves differs between its versions.
        fields = (f"{quote_name(each.name)} {each.type.to_duckdb()}" for each in self.fields)
        return f"STRUCT({', '.join(fields)})"

    def describe(self) -> str:
        shown = []
        for each in self.fields:
            note = f" ({each.description})" if each.description else ""
            shown.append(f'"{each.name}": {each.type.describe()}{note}')
        return "{" + ", ".join(shown) + "}"

    def json_schema(self) -> JsonSchema:
        return {
            "type": "object",
            "properties": {each.name: nullable(each.type.json_schema()) for each in self.fields},
            "required": [each.name for each in self.fields],
            "additionalProperties": False,
        }

    def canonical(self, value: Any, path: str = "$") -> dict[str, Any]:
        """Accept an object that has every field; what was not asked for is dropped."""
        if not isinstance(value, dict):
            reject(path, value, "an object")
        missing = [each.name for each in self.fields if each.name not in value]
        if missing:
            raise InvalidAnswer(f"{path}: field {missing[0]!r} is missing")
        return {
            each.name: each.type.canonical_or_null(value[each.name], f"{path}.{each.name}")
            for each in self.fields
        }

    def hollow(self) -> dict[str, Any]:
        return {each.name: each.type.hollow() for each in self.fields}


@dataclass(frozen=True)
class MapType(SqlType):
    """MAP(VARCHAR, T); values may be null."""

    value: SqlType

    @property
    def nested(self) -> bool:
        return True

    def to_duckdb(self) -> str:
        return f"MAP(VARCHAR, {self.value.to_duckdb()})"

    def describe(self) -> str:
        return f"object of text to {self.value.describe()}"

    def json_schema(self) -> JsonSchema:
        # The strict mode of OpenAI has no open objects: it refuses MAP and JSON.
        return {"type": "object", "additionalProperties": nullable(self.value.json_schema())}

    def canonical(self, value: Any, path: str = "$") -> dict[str, Any]:
        """Accept an object whose values are valid."""
        if not isinstance(value, dict):
            reject(path, value, "an object")
        return {
            check_utf8(key, path): self.value.canonical_or_null(item, f"{path}.{key}")
            for key, item in value.items()
        }
