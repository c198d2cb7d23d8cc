"""Whatever JSON a server writes, it becomes a reply or a failed row, and never a crash."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.base import Reply, Request, Usage
from quackllm.engine.providers.constraints import Constraint
from quackllm.engine.providers.openai_reply import read_reply
from quackllm.errors import CallError
from quackllm.udfs.base import FreeText

REQUEST = Request("i", "{}", FreeText(), 0.0, 8)
NAMES = st.sampled_from(
    ["choices", "message", "content", "refusal", "finish_reason", "usage", "prompt_tokens",
     "prompt_tokens_details", "cached_tokens"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("length"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(
    JSON
    | st.fixed_dictionaries({"choices": st.lists(JSON), "usage": JSON})
    | st.builds(
        lambda message, finish: {"choices": [{"message": message, "finish_reason": finish}]},
        JSON,
        JSON,
    )
)
def test_any_json_is_a_reply_or_a_failed_row(completion: Any) -> None:
    try:
        reply = read_reply(completion, REQUEST, Constraint())
    except CallError:
        return
    assert isinstance(reply.text, str)
    assert reply.usage.prompt_tokens >= 0


def completion(text: str, **usage: Any) -> dict[str, Any]:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": usage}


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 5}, 5), ({"cached_tokens": 0}, 0), ({}, None), (None, None)],
)
def test_cached_tokens_are_unknown_where_the_server_does_not_report_them(
    details: Any, cached: int | None
) -> None:
    said = completion("ok", prompt_tokens=7, completion_tokens=1, prompt_tokens_details=details)
    assert read_reply(said, REQUEST, Constraint()) == Reply("ok", Usage(7, 1, cached))


def test_an_empty_answer_is_an_answer_for_the_parser_to_judge() -> None:
    assert read_reply(completion(""), REQUEST, Constraint()).text == ""
