"""What a constraint costs a vLLM server that is asked one request at a time.

Each form is asked for in turn, with prompts that share nothing; the server's own histograms tell
what a request waited for (its grammar), and what prompt and answer took.

    make vllm
    python -m benchmarks.llm_sql.lone --url http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from benchmarks.llm_sql.report import served_model
from quackllm.engine.providers.constraints import ServerKind, constraint
from quackllm.udfs.base import Choice, Number

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
PHASES = ("request_queue_time", "request_prefill_time", "request_decode_time")

FORMS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "nothing": dict,
    "a pattern": lambda: constraint(Number(0, 1), ServerKind.VLLM).body,
    "labels": lambda: constraint(Choice(("yes", "no")), ServerKind.VLLM).body,
    "a JSON schema": lambda: {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA},
        }
    },
    "another pattern": lambda: {"structured_outputs": {"regex": f"[0-9]{{9}}{uuid.uuid4().hex}"}},
}


def spent(root: str) -> dict[str, float]:
    """Return the seconds of each phase, of all requests that the server has had."""
    metrics = httpx.get(f"{root}/metrics").raise_for_status().text
    found = {}
    for phase in PHASES:
        lines = re.findall(rf"^vllm:{phase}_seconds_sum\{{.*\}} (\S+)$", metrics, re.MULTILINE)
        found[phase] = sum(map(float, lines))
    return found


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description="Lone requests, held to a form or free.")
    options.add_argument("--url", default="http://127.0.0.1:8000/v1")
    options.add_argument("--calls", type=int, default=10)
    given = options.parse_args()
    root, model = given.url.removesuffix("/v1"), served_model(given.url)
    print("| answer held to | tokens | waits | prompt | answer |\n|---|--:|--:|--:|--:|")
    with httpx.Client(base_url=given.url, timeout=120) as client:
        for name, form in FORMS.items():
            before, tokens = spent(root), 0
            for _ in range(given.calls):
                asked = f"How much of a number is this? {uuid.uuid4()} {uuid.uuid4()}"
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": asked}],
                    "max_tokens": 6,
                    "temperature": 0,
                    **form(),
                }
                reply = client.post("/chat/completions", json=body).raise_for_status().json()
                tokens += reply["usage"]["completion_tokens"]
            after = spent(root)
            took = [1000 * (after[phase] - before[phase]) / given.calls for phase in PHASES]
            shown = " | ".join(f"{milliseconds:.0f} ms" for milliseconds in took)
            print(f"| {name} | {tokens / given.calls:.1f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
