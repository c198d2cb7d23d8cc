"""LOTUS as a system under test: semantic operators over pandas.

Its documented way: an instruction in words with the columns in braces, `LM` for a server
that litellm calls 'hosted_vllm', default batches of 64 calls. A filter passes the rows whose
answer it cannot read (its default); they count as failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lotus
import pandas as pd
from lotus.models import LM

from .exchange import Answered, Ask, Done, Job, serve
from .lotus_sets import run_sets

CONTEXT_WINDOW = 4096


def instruction(ask: Ask) -> str:
    """Return a question as LOTUS has it."""
    scale = " Answer with a number from 1 to 5." if ask.kind == "score" else ""
    return f"{ask.prompt}{scale} " + " ".join(f"{{{name}}}" for name in ask.fields)


def open_system(url: str, model: str) -> Callable[[Job], Answered | Done]:
    """Return what runs a job with LOTUS."""

    def run(job: Job) -> Answered | Done:
        served = LM(
            f"hosted_vllm/{model}",
            api_base=url,
            api_key="none",
            max_ctx_len=CONTEXT_WINDOW,
            max_tokens=job.max_tokens,
        )
        lotus.settings.configure(lm=served)
        if job.way:
            return run_sets(job)
        rows: Any = pd.DataFrame(job.rows)
        passed, answers, failures = None, None, 0
        for ask in job.asks:
            if ask.kind == "filter":
                rows = rows.sem_filter(instruction(ask), return_raw_outputs=True)
                said = rows["raw_output_filter"].str.lower()
                failures += int((~said.str.contains("true")).sum())
                passed = rows["id"].tolist()
            else:
                found = rows.sem_map(instruction(ask), suffix="answer")
                answers = list(zip(found["id"], found["answer"], strict=True))
        return Answered(passed, answers, failures)

    return run


if __name__ == "__main__":
    serve(open_system)
