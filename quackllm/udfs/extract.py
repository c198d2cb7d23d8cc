"""LLM_EXTRACT(input, fields): named, typed values out of the data, as a STRUCT."""

from __future__ import annotations

from functools import partial
from typing import Any

from quackllm.errors import BindError
from quackllm.udfs.answers import json_answer, read_typed
from quackllm.udfs.base import Binding, Declaration, Function, Kind, Parameter
from quackllm.udfs.nested_types import ListType, StructField, StructType
from quackllm.udfs.options import shown
from quackllm.udfs.prompt import DATA_NOTE
from quackllm.udfs.type_parser import is_type, parse_described_type
from quackllm.udfs.types import SqlType, Varchar


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` for fields that are wrong."""
    type_ = read_fields(binding.constants["fields"], "fields")
    return Declaration(
        instruction=(
            f"Extract from the data, in JSON: {type_.describe()}\n"
            f"Write null for what the data does not say.\n{DATA_NOTE}"
        ),
        returns=type_.to_duckdb(),
        answer=json_answer(type_),
        parse=partial(read_typed, type_=type_),
        max_tokens=_tokens(type_),
    )


def read_fields(value: Any, path: str) -> StructType:
    """Return the STRUCT that a struct literal of field → type describes.

    A type is a text, `'TYPE'` or `'TYPE: description'`; a struct for a nested
    STRUCT; a list of one of these for a list. Raises `BindError` with the path.
    """
    if not isinstance(value, dict):
        raise BindError(
            f"{path} must be a struct of field to type, such as {{'price': 'DOUBLE', "
            f"'brand': 'VARCHAR: the maker'}}, not {shown(value)}"
        )
    if not value:
        raise BindError(f"{path} is empty: give at least one field")
    if "" in value:
        raise BindError(f"{path} has a field without a name")
    seen: set[str] = set()
    for name in value:
        if name.casefold() in seen:
            raise BindError(f"{path} has the field {name!r} twice: names are compared without case")
        seen.add(name.casefold())
    return StructType(
        tuple(StructField(name, *_typed(item, f"{path}.{name}")) for name, item in value.items())
    )


def _typed(value: Any, path: str) -> tuple[SqlType, str]:
    """Return the type and the description of one field."""
    if isinstance(value, str):
        try:
            return parse_described_type(value)
        except BindError as error:
            raise BindError(f"{path}: {error}{_described_text(value)}") from None
    if isinstance(value, dict):
        return read_fields(value, path), ""
    if isinstance(value, list) and len(value) == 1:
        item, description = _typed(value[0], f"{path}[]")
        return ListType(item), description
    raise BindError(
        f"{path} must be a type such as 'DOUBLE' or 'DOUBLE: description', a struct of these, "
        f"or a list of one of these, not {shown(value)}"
    )


def _described_text(value: str) -> str:
    """Say how a description is written, where several words begin with no type."""
    first, *others = value.split()[:2] or [""]
    if not others or is_type(first) or not first.isalpha():
        return ""
    return f". For a text with a description, write 'VARCHAR: {value}'"


def _tokens(type_: SqlType) -> int:
    """Return a bound for the tokens of a sensible answer: names, and room for values."""
    if isinstance(type_, StructType):
        return 8 + sum(8 + len(each.name) + _tokens(each.type) for each in type_.fields)
    if isinstance(type_, Varchar):
        return 256
    return 512 if type_.nested else 32


EXTRACT = Function(
    name="llm_extract",
    aliases=("ai_extract",),
    summary="typed values out of the data, as a STRUCT",
    parameters=(
        Parameter("input", Kind.VALUE, "the data to read"),
        Parameter("fields", Kind.CONSTANT, "a struct of field name to type"),
    ),
    declare=declare,
    version=2,
    example="SELECT LLM_EXTRACT(body, {'price': 'DOUBLE', 'brand': 'VARCHAR: the maker'}) FROM ads",
)
