"""Constraints of decoding: each kind of server in its own language, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.constraints import ServerKind, choice_grammar, constraint
from quackllm.udfs.base import Choice, FreeText, JsonAnswer

LABELS = st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True).map(tuple)
LIST = JsonAnswer('{"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {}}}')


def grammar_texts(grammar: str) -> list[str]:
    """Read the texts of a grammar that is one alternative of them, by GBNF's escapes."""
    texts: list[str] = []
    rest = grammar.removeprefix("root ::= ")
    while rest:
        assert rest.startswith('"')
        at, text = 1, ""
        while rest[at] != '"':
            if rest[at] != "\\":
                text, at = text + rest[at], at + 1
            elif rest[at + 1] == "x":
                text, at = text + chr(int(rest[at + 2 : at + 4], 16)), at + 4
            else:
                escaped = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
                text, at = text + escaped[rest[at + 1]], at + 2
        texts.append(text)
        rest = rest[at + 1 :].removeprefix(" | ")
    return texts


@given(LABELS)
def test_a_grammar_admits_exactly_the_labels(labels: tuple[str, ...]) -> None:
    grammar = choice_grammar(labels)
    assert "\n" not in grammar
    assert grammar_texts(grammar) == list(labels)


@given(LABELS)
def test_a_label_wrapped_for_a_server_comes_back_as_it_was(labels: tuple[str, ...]) -> None:
    limits = constraint(Choice(labels), ServerKind.OPENAI)
    schema = limits.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == list(labels)
    for label in labels:
        assert limits.unwrap(json.dumps({"answer": label}), Choice(labels)) == label


@pytest.mark.parametrize("text", ["yes", '{"answer": ', '{"other": 1}', '["yes"]'])
def test_what_is_not_wrapped_is_left_for_the_parser_to_judge(text: str) -> None:
    form = Choice(("yes", "no"))
    assert constraint(form, ServerKind.OTHER).unwrap(text, form) == text


def test_a_document_that_is_no_object_is_wrapped_with_its_definitions_at_the_root() -> None:
    limits = constraint(LIST, ServerKind.OPENAI)
    schema = limits.body["response_format"]["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert set(schema["$defs"]) == {"n"}
    assert limits.unwrap('{"answer": [1, "é"]}', LIST) == '[1, "é"]'


@pytest.mark.parametrize("kind", ServerKind)
def test_free_text_is_free_everywhere(kind: ServerKind) -> None:
    assert constraint(FreeText(), kind).body == {}


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        (ServerKind.VLLM, "structured_outputs"),
        (ServerKind.LLAMA_CPP, "json_schema"),
        (ServerKind.OLLAMA, "response_format"),
        (ServerKind.OPENAI, "response_format"),
        (ServerKind.OTHER, "response_format"),
    ],
)
def test_a_document_is_asked_for_in_the_language_of_the_server(
    kind: ServerKind, member: str
) -> None:
    assert set(constraint(JsonAnswer('{"type": "object"}'), kind).body) == {member}
