"""The person's own redaction of texts, before they are asked about.

The hook is given every text and every number of a row's values, those inside of lists,
structs and maps one by one. It works on the JSON that the model would read; what it
changes becomes a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pyarrow as pa

from quackllm.errors import QuackLLMError

Redact: TypeAlias = Callable[[str], str]
"""Takes a text of a value and returns what may be shown of it."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*', re.DOTALL)
"""A string or a number of JSON text, whose strings hold no raw quote."""


def redacted_fields(redact: Redact, fields: Sequence[pa.Array]) -> list[pa.Array]:
    """Return the rendered fields of rows with every text and number as the hook returns it.

    fields: string arrays of JSON text. Raises `QuackLLMError` for a hook that returns no
    text, and what the hook raises.
    """
    return [
        pa.array([redacted_value(redact, value) for value in field.to_pylist()], pa.string())
        for field in fields
    ]


def redacted_value(redact: Redact, value: str) -> str:
    """Redact the JSON text of one value."""

    def replace(found: re.Match[str]) -> str:
        written = found[0]
        text = json.loads(written, strict=False) if written.startswith('"') else written
        shown = redact(text)
        if not isinstance(shown, str):
            raise QuackLLMError(
                f"the redact function returned a {type(shown).__name__}, not a text; "
                "nothing was sent"
            )
        return written if shown == text else json.dumps(shown, ensure_ascii=False)

    return TOKEN.sub(replace, value)
