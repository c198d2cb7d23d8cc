"""From a model's text to the canonical text of an SQL value.

With constrained decoding the text is exact already. Servers that cannot constrain
wrap it: in spaces, quotes, a Markdown fence, with a full stop or in another case.
Those wrappings are taken off because they leave no doubt about the answer; anything
else is an `InvalidAnswer`. Nothing is guessed.

The JSON form of an answer works with vLLM's `structured_outputs`, llama.cpp's
`json_schema` and OpenAI's strict `json_schema` alike: the root is an object, a
STRUCT as it is and anything else under the single key "answer"; every property is
required, the absent ones are null; no ranges are declared, they are checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from quackllm.errors import InvalidAnswer
from quackllm.udfs.base import JsonAnswer
from quackllm.udfs.nested_types import ListType, StructType
from quackllm.udfs.types import (
    Boolean,
    Enum,
    JsonSchema,
    SqlType,
    Varchar,
    check_utf8,
    match_label,
    nullable,
    read_boolean,
    reject,
)

ANSWER_KEY = "answer"
TRUE_FALSE = ("true", "false")

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}


def read_text(text: str) -> str:
    """Return free text without the white space around it. Raises `InvalidAnswer`."""
    stripped = check_utf8(text, "$").strip()
    if not stripped:
        raise InvalidAnswer("the answer is empty")
    return stripped


def read_choice(text: str, labels: tuple[str, ...]) -> str:
    """Return the label that the answer is. Raises `InvalidAnswer`."""
    for form in _unwrapped(text):
        found = match_label(form, labels)
        if found is not None:
            return found
    shown = ", ".join(repr(label) for label in labels[:20])
    more = f" and {len(labels) - 20} more" if len(labels) > 20 else ""
    return reject("$", text.strip(), f"one of {shown}{more}")


def choice_tokens(labels: Iterable[str]) -> int:
    """Return a bound for the tokens of any of the labels, in a wrapper if need be.

    A token is a byte at least; 16 leaves room for `{"answer": "..."}`, the form in
    which servers that take only JSON schemas give a choice.
    """
    return 16 + max(len(label.encode()) for label in labels)


def read_true_false(text: str) -> str:
    """Return 'true' or 'false' for an answer of true, false, yes or no. Raises `InvalidAnswer`."""
    for form in _unwrapped(text):
        found = read_boolean(form)
        if found is not None:
            return "true" if found else "false"
    return reject("$", text.strip(), "true or false")


def _unwrapped(text: str) -> list[str]:
    """Return the text as it is, then with ever more of its wrapping taken off.

    At most one pair of quotes and one full stop, whichever is outside.
    """
    forms = [text, text.strip()]
    quotes = stop = True
    while True:
        inner = forms[-1]
        if quotes and len(inner) >= 2 and _QUOTES.get(inner[0]) == inner[-1]:
            forms.append(inner[1:-1].strip())
            quotes = False
        elif stop and inner.endswith("."):
            forms.append(inner[:-1].rstrip())
            stop = False
        else:
            return forms


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _exact_number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text} is not a usable number") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def read_json(text: str) -> Any:
    """Read one JSON document, with or without a Markdown fence around it.

    Fractions come back as `Decimal`, exactly as they were written. Raises
    `InvalidAnswer`, also for repeated keys and for NaN and Infinity.
    """
    fenced = _FENCE.fullmatch(text.strip())
    try:
        return json.loads(
            fenced[1] if fenced else text,
            parse_float=_exact_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique_keys,
        )
    except RecursionError:
        raise InvalidAnswer("the JSON of the answer is nested too deeply") from None
    except ValueError as error:
        raise InvalidAnswer(f"the answer is not a JSON document: {error}") from None


def write_json(value: Any) -> str:
    """Write a JSON-able value compactly, `Decimal` as the number it is."""
    if isinstance(value, dict):
        members = (f"{write_json(key)}:{write_json(item)}" for key, item in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_json, value)) + "]"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def canonical_text(type_: SqlType, value: Any) -> str:
    """Return the text of a canonical value that `type_.cast_sql` reads."""
    if type_.nested or not isinstance(value, str):
        return write_json(value)
    return value


def json_answer(type_: SqlType, *, null: bool = False) -> JsonAnswer:
    """Return the answer form of a type. null: whether the model may answer null."""
    schema = type_.json_schema()
    if not isinstance(type_, StructType):
        schema = _wrapped(nullable(schema) if null else schema)
    return _json_form(schema)


def labels_answer(labels: tuple[str, ...]) -> JsonAnswer:
    """Return the answer form of a list of labels.

    Its length is bounded: held to labels only, a small model repeats them without end.
    """
    schema = ListType(Enum(labels)).json_schema()
    return _json_form(_wrapped({**schema, "maxItems": len(labels)}))


def flags_answer(count: int) -> JsonAnswer:
    """Return the answer form of a list of true or false of just this length."""
    schema = ListType(Boolean()).json_schema()
    schema["items"] = Boolean().json_schema()  # none of them null
    return _json_form(_wrapped({**schema, "minItems": count, "maxItems": count}))


def _json_form(schema: JsonSchema) -> JsonAnswer:
    return JsonAnswer(json.dumps(schema, ensure_ascii=False, separators=(",", ":")))


def _wrapped(schema: JsonSchema) -> JsonSchema:
    return {
        "type": "object",
        "properties": {ANSWER_KEY: schema},
        "required": [ANSWER_KEY],
        "additionalProperties": False,
    }


def describe_answer(type_: SqlType) -> str:
    """Return the shape of the JSON answer in the words of a prompt."""
    if isinstance(type_, StructType):
        return type_.describe()
    return f'{{"{ANSWER_KEY}": {type_.describe()}}}'


def read_typed(text: str, type_: SqlType, *, null: bool = False) -> str | None:
    """Return the canonical text of an answer of the type, None for a null answer.

    Beside the declared form, a value without its wrapper is accepted where it cannot
    be mistaken: any value that is not an object, and plain text for a plain type.
    Raises `InvalidAnswer`.
    """
    value, path = _answered(text, type_)
    if value is None and null:
        return None
    return canonical_text(type_, type_.canonical(value, path))


def _answered(text: str, type_: SqlType) -> tuple[Any, str]:
    """Return the value that the text carries and its path in the document."""
    try:
        document = read_json(text)
    except InvalidAnswer:
        if type_.nested or isinstance(type_, Varchar) or text.lstrip()[:1] in ("{", "[", "`"):
            raise
        bare = read_choice(text, type_.values) if isinstance(type_, Enum) else text.strip()
        return bare, "$"
    if isinstance(type_, StructType):
        return document, "$"
    if isinstance(document, dict):
        if set(document) != {ANSWER_KEY}:
            reject("$", write_json(document), f'an object with the one key "{ANSWER_KEY}"')
        return document[ANSWER_KEY], f"$.{ANSWER_KEY}"
    return document, "$"


def read_labels(text: str, labels: tuple[str, ...]) -> str:
    """Return the JSON list of the labels that the answer names, in their declared order.

    Raises `InvalidAnswer`, also when one of them is no label.
    """
    type_ = ListType(Enum(labels))
    value, path = _answered(text, type_)
    named = set(type_.canonical(value, path))
    return write_json([label for label in labels if label in named])


def read_flags(text: str, count: int) -> str | None:
    """Return the JSON list of true and false for so many entries, as the answer has it.

    None where it does not say exactly that: nobody can tell then which entry each part of it is
    about, and the entries are asked again, fewer at a time.
    """
    try:
        said, _ = _answered(text, ListType(Boolean()))
    except InvalidAnswer:
        return None
    if not isinstance(said, list) or len(said) != count:
        return None
    return write_json(said) if all(isinstance(flag, bool) for flag in said) else None
