"""Palimpzest as a system under test: semantic operators over datasets, planned by cost.

Its documented way, with the policy for the least time and one model to choose from. Of
models on vLLM it knows one by name, and its release 0.9.0 fails when it calls that one; so
litellm, through which it calls every model, is told that GPT-4o mini is ours, and bounds the
answers, which Palimpzest does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import litellm
import palimpzest
import pandas as pd

from .exchange import Answered, Ask, Job, serve

STAND_IN = palimpzest.Model.GPT_4o_MINI
LONGEST_ANSWER = 128
"""Tokens: it asks for reasoning before the answer."""


def add(dataset: Any, ask: Ask) -> Any:
    """Return the dataset with a question asked of it."""
    fields = list(ask.fields)
    if ask.kind == "filter":
        return dataset.sem_filter(ask.prompt, depends_on=fields)
    scale = " A number from 1 to 5." if ask.kind == "score" else ""
    kind = float if ask.kind == "score" else str
    column = {"name": "answer", "type": kind, "desc": f"{ask.prompt}{scale}"}
    return dataset.sem_map([column], depends_on=fields)


def open_system(url: str, model: str) -> Callable[[Job], Answered]:
    """Return what runs a job with Palimpzest."""
    os.environ |= {"OPENAI_API_KEY": "none", "HOSTED_VLLM_API_BASE": url}
    litellm.model_alias_map = {STAND_IN.value: f"hosted_vllm/{model}"}
    litellm.completion = partial(litellm.completion, max_tokens=LONGEST_ANSWER)

    def run(job: Job) -> Answered:
        dataset: Any = palimpzest.MemoryDataset("t", pd.DataFrame(job.rows))
        for ask in job.asks:
            dataset = add(dataset, ask)
        if job.limit:
            dataset = dataset.limit(job.limit)
        # One per run: a run changes it.
        config = palimpzest.QueryProcessorConfig(
            policy=palimpzest.MinTime(), available_models=[STAND_IN], progress=False
        )
        found = dataset.run(config).to_df()
        ids = list(found["id"]) if len(found) else []
        if [ask.kind for ask in job.asks] == ["filter"]:
            return Answered(passed=ids)
        answers = list(zip(ids, found["answer"] if ids else [], strict=True))
        return Answered(answers=answers, failures=sum(said is None for _, said in answers))

    return run


if __name__ == "__main__":
    serve(open_system)
