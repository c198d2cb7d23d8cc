"""Answer forms in the request language of each kind of server.

Servers differ in how decoding is constrained and ignore what they do not know, so the
kind of the server has to be known. A text that is wrapped into an object for a server
that takes only objects is unwrapped again: what a `Reply` carries is always the plain
label or the document asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.compact_json import compact_json_regex
from quackllm.engine.providers.numbers import number_grammar, number_regex
from quackllm.udfs.base import AnswerForm, Choice, Embedding, FreeText, JsonAnswer, Number

if TYPE_CHECKING:
    from collections.abc import Mapping

_WRAPPER = "answer"
_WRAPPER_TOKENS = 16
_NAMES = frozenset({"structured_outputs", "grammar", "json_schema", "response_format"})


class ServerKind(Enum):
    """Which software answers; `OTHER` is any server that speaks the same protocol."""

    OPENAI = "openai"
    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"
    OTHER = "other"


@dataclass(frozen=True)
class Constraint:
    """Members of the request body that constrain the answer, and how to read it.

    wrapped: the answer comes as the member 'answer' of an object.
    extra_tokens: what the object, and the white space that servers put into it, take.
    """

    body: Mapping[str, Any] = field(default_factory=dict)
    wrapped: bool = False
    extra_tokens: int = 0

    def unwrap(self, text: str, form: AnswerForm) -> str:
        """Return the answer without the object around it; other text as it is."""
        if not self.wrapped:
            return text
        try:
            document = json.loads(text)
        except ValueError:
            return text
        if not isinstance(document, dict) or set(document) != {_WRAPPER}:
            return text
        answer = document[_WRAPPER]
        if isinstance(form, Choice) and isinstance(answer, str):
            return answer
        return json.dumps(answer, ensure_ascii=False)


def constraint_names(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the members of a request body that constrain the answer."""
    return _NAMES & set(body)


def constraint(form: AnswerForm, kind: ServerKind) -> Constraint:
    """Return how a server of this kind is held to the answer form."""
    if isinstance(form, FreeText):
        return Constraint()
    assert not isinstance(form, Embedding), "providers of embeddings send no constraint"
    if kind is ServerKind.VLLM:
        if isinstance(form, Choice):
            return Constraint({"structured_outputs": {"choice": list(form.labels)}})
        if isinstance(form, Number):
            return Constraint({"structured_outputs": {"regex": number_regex(form)}})
        compact = compact_json_regex(form.as_dict())
        held = {"json": form.as_dict()} if compact is None else {"regex": compact}
        return Constraint({"structured_outputs": held})
    if kind is ServerKind.LLAMA_CPP:
        if isinstance(form, Choice):
            return Constraint({"grammar": choice_grammar(form.labels)})
        if isinstance(form, Number):
            return Constraint({"grammar": number_grammar(form)})
        return Constraint({"json_schema": form.as_dict()})
    return _response_format(form, strict=kind in (ServerKind.OPENAI, ServerKind.OTHER))


def _response_format(form: Choice | Number | JsonAnswer, *, strict: bool) -> Constraint:
    """Constrain as OpenAI does, where the document has to be an object."""
    schema: dict[str, Any]
    if isinstance(form, Choice):
        schema = {"type": "string", "enum": list(form.labels)}
    elif isinstance(form, Number):
        schema = {"type": "number", "minimum": form.low, "maximum": form.high}
    else:
        schema = form.as_dict()
    wrapped = False
    if schema.get("type") != "object":
        definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
        schema, wrapped = _wrap(schema) | definitions, True
    described = {"name": "answer", "strict": strict, "schema": schema}
    wanted = {"response_format": {"type": "json_schema", "json_schema": described}}
    return Constraint(wanted, wrapped, extra_tokens=_WRAPPER_TOKENS if wrapped else 0)


def _wrap(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {_WRAPPER: dict(schema)},
        "required": [_WRAPPER],
        "additionalProperties": False,
    }


def choice_grammar(labels: tuple[str, ...]) -> str:
    """Return the GBNF grammar whose texts are exactly the labels."""
    return "root ::= " + " | ".join(_gbnf_text(label) for label in labels)


def _gbnf_text(text: str) -> str:
    """Quote a text for GBNF, whose escapes are those of C."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    quoted = "".join(
        escapes.get(character) or (f"\\x{ord(character):02X}" if ord(character) < 32 else character)
        for character in text
    )
    return f'"{quoted}"'
