"""A row in a prompt is one JSON object; a reference in a template is a name and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.errors import BindError
from quackllm.udfs.prompt import fill_template, neutral_fields, render_fields

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=5), st.randoms(use_true_random=False))
def test_a_rendered_row_reads_back_in_the_order_given(row: dict[str, Any], random: Any) -> None:
    names = list(row)
    order = list(range(len(names)))
    random.shuffle(order)
    fragments = [None if row[name] is None else json.dumps(row[name]) for name in names]
    read = json.loads(render_fields(names, fragments, order))
    assert read == row
    assert list(read) == [names[at] for at in order]


def test_a_row_looks_as_documented() -> None:
    names = ("title", 'a "b"', "nothing")
    values = ('"Ünïcode"', "[1,2]", None)
    assert render_fields(names, values) == '{"title":"Ünïcode","a \\"b\\"":[1,2],"nothing":null}'
    assert render_fields(names, values, (2, 0)) == '{"nothing":null,"title":"Ünïcode"}'
    assert render_fields((), ()) == "{}"


def test_a_neutral_row_has_the_fields_and_no_content() -> None:
    assert neutral_fields(("a", "b"), (1, 0)) == '{"b":"","a":""}'


FIELDS = ("title", "product name", "t.x", "größe", "a:b", "1st")


@pytest.mark.parametrize(
    ("prompt", "instruction"),
    [
        ("Is {title} good?", 'Is "title" good?'),
        ("{TITLE} and { title }", '"title" and "title"'),
        ("{product name}, {t.x}, {Größe}", '"product name", "t.x", "größe"'),
        ("{a:b} {1st}", '"a:b" "1st"'),
        ("{{title}} is literal, so is {{anything}}", "{title} is literal, so is {anything}"),
        ('As JSON {"a": 1}', 'As JSON {"a": 1}'),
        ('Nested {"a": {"b": {}}}', 'Nested {"a": {"b": {}}}'),
        ("[0-9]{3} and {1,2} and {}", "[0-9]{3} and {1,2} and {}"),
        ("{'a', 'b'} or {x: y} or {\n}", "{'a', 'b'} or {x: y} or {\n}"),
        ("an open { and a closed }", "an open { and a closed }"),
        ("no braces", "no braces"),
    ],
)
def test_references_become_names_and_other_braces_stay(prompt: str, instruction: str) -> None:
    assert fill_template(prompt, FIELDS) == instruction


def test_an_unknown_reference_lists_the_arguments() -> None:
    with pytest.raises(BindError) as caught:
        fill_template("Is {titel} good?", ("title", "review"))
    assert str(caught.value) == (
        "the prompt refers to {titel}, which is not an argument of the call, "
        "did you mean title? Arguments: title, review. To write braces, double them: {{titel}}"
    )
    with pytest.raises(BindError, match="the call has no data arguments"):
        fill_template("Is {title} good?", ())


@settings(deadline=None)
@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_any_prompt_is_filled_or_refused(prompt: str, fields: list[str]) -> None:
    try:
        filled = fill_template(prompt, fields)
    except BindError as error:
        assert "the prompt refers to {" in str(error)
        return
    if "{" not in prompt:
        assert filled == prompt
