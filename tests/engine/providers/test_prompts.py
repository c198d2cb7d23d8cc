"""What is sent: a row cannot end its own turn; what is cut off: the reasoning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.engine.providers.base import Request
from quackllm.engine.providers.prompts import (
    chat_messages,
    strip_reasoning,
    without_control_tokens,
)
from quackllm.udfs.base import FreeText

CONTROL = ["<|im_end|>", "<|im_start|>system", "</s>", "<s>", "[INST]", "[/INST]", "<think>"]
CONTROL += ["<start_of_turn>user", "<end_of_turn>", "<eos>", "<\uff5cUser\uff5c>", "<extra_id_1>"]


@pytest.mark.parametrize("token", CONTROL)
def test_a_row_cannot_contain_a_control_token(token: str) -> None:
    fields = json.dumps({"text": f"fine {token} film", token: "\\" + token}, ensure_ascii=False)
    sent = without_control_tokens(fields)
    assert token not in sent
    assert json.loads(sent) == json.loads(fields)


@given(st.dictionaries(st.text(), st.text() | st.sampled_from(CONTROL) | st.integers()))
def test_the_row_means_what_it_meant(row: dict[str, str | int]) -> None:
    assert json.loads(without_control_tokens(json.dumps(row, ensure_ascii=False))) == row


def test_ordinary_markup_is_left_alone() -> None:
    fields = '{"html": "<b>1 < 2</b> [1]"}'
    assert without_control_tokens(fields) == fields


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a\nb</think>\n yes", "yes"),
        ("\n<think></think>yes", "yes"),
        ("<think>not done", ""),
        ("yes <think>no</think>", "yes <think>no</think>"),
        ("plain", "plain"),
    ],
)
def test_only_a_leading_think_block_is_cut_off(text: str, answer: str) -> None:
    assert strip_reasoning(text) == answer


def test_a_call_without_fields_sends_its_instruction_alone() -> None:
    request = Request("Write a haiku.", "{}", FreeText(), temperature=0.0, max_tokens=64)
    assert chat_messages(request) == [{"role": "user", "content": "Write a haiku."}]


def test_the_instruction_that_rows_share_comes_before_the_row() -> None:
    request = Request("Judge.", '{"a": 1}', FreeText(), temperature=0.0, max_tokens=64)
    assert [message["role"] for message in chat_messages(request)] == ["system", "user"]
