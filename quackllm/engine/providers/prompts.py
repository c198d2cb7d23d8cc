"""What is sent to a model for a request, and what is cut off its answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from quackllm.udfs.prompt import DATA_NOTE

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Rejected, Request

_REASONING = re.compile(r"\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)


# What chat templates and tokenizers mark turns, tools, documents and special places with.
# Servers read such texts as control tokens wherever they stand, in a row as well.
_ANGLED = (
    r"\|",  # ChatML, Llama 3, Phi, gpt-oss, Cohere: <|...|>
    r"\uff5c",  # DeepSeek: full-width bars
    r"/?s>",  # Llama 2, Mistral
    r"<?/?SYS>",  # Llama 2: <<SYS>>
    r"/?think(?:ing)?>",
    r"/?tools?(?:_\w+)?>",  # Hermes, Qwen: <tool_call>, <tool_response>
    r"/?minimax:",
    r"seed:",
    r"(?:start|end|begin)_(?:of_)?\w+>",  # Gemma: <start_of_turn>
    r"(?:bos|eos|eot|eod|pad|unk|mask|sep|cls|sop|eop)>",
    r"(?:extra_id|unused|reserved|special|fim|file|repo|gh|issue|jupyter|empty)_?\w*>",
    r"(?:reponame|filename|image|audio|video)>",
    r"0x[0-9A-Fa-f]{2}>",  # bytes of SentencePiece
)
_SQUARE = (
    r"/?[A-Z_]{2,30}\]",  # Mistral: [INST], [TOOL_CALLS]; BERT: [CLS]
    r"[gs]MASK\]",  # GLM
    r"[~|]",  # MiniMax: ]~b]
)
_CONTROL = re.compile(rf"[<\uff1c](?={'|'.join(_ANGLED)})|\[(?={'|'.join(_SQUARE)})|\](?=~)")


_LONGEST_REJECTED = 500

NO_FIELDS = "{}"
"""How a row without fields is rendered."""


def chat_messages(request: Request) -> list[dict[str, str]]:
    """Return the messages: the instruction, which all rows share, and then the row.

    With the row first, what is in front of it is the same for all functions.
    A call without fields has only its instruction, as what the person asks. An answer
    that was rejected follows as the conversation went, so the prefix of the prompt, and
    with it the server's cache of it, is that of the first try.
    """
    # A prompt, a label or a name may have come out of a table by way of a parameter.
    instruction = without_control_tokens(request.instruction)
    if request.fields == NO_FIELDS:
        messages = [{"role": "user", "content": instruction}]
    elif request.row_first:
        question = instruction.replace(f"\n{DATA_NOTE}", "")
        messages = [
            {"role": "system", "content": DATA_NOTE},
            {"role": "user", "content": f"{without_control_tokens(request.fields)}\n{question}"},
        ]
    else:
        messages = [
            {"role": "system", "content": instruction},
            {"role": "user", "content": without_control_tokens(request.fields)},
        ]
    if request.rejected is not None:
        messages += _objection(request.rejected)
    return messages


def _objection(rejected: Rejected) -> list[dict[str, str]]:
    """Return the turns that show a model its answer and say what is wrong with it."""
    said = without_control_tokens(rejected.text[:_LONGEST_REJECTED])
    cause = without_control_tokens(rejected.cause[:_LONGEST_REJECTED])
    return [
        {"role": "assistant", "content": said or "(nothing)"},
        {
            "role": "user",
            "content": f"This answer cannot be used: {cause}. Answer the same question once "
            "more, with nothing but the answer in the form that was asked for.",
        },
    ]


def without_control_tokens(fields: str) -> str:
    """Return the same JSON with nothing in it that a server takes for the end of a turn.

    Their first character is written as the JSON escape of it, so the values are what
    they were, and a text in a table cannot open a message of its own.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", fields)


def strip_reasoning(text: str) -> str:
    """Cut off a leading <think> block, also one that the token limit has left open."""
    found = _REASONING.match(text)
    return text[found.end() :] if found else text
