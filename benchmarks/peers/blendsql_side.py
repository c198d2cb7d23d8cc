"""BlendSQL as a system under test: `LLMMap` in SQL over DuckDB, its class for vLLM servers.

Its documented way: the values of a row as arguments of `LLMMap`, answers constrained by a
grammar, a LIMIT that ends the calls early. Calls in flight: its default, 32.
"""

from __future__ import annotations

from collections.abc import Callable

import openai
import pandas as pd
from blendsql import BlendSQL, config
from blendsql.ingredients import LLMMap
from blendsql.models import VLLM

from .exchange import Answered, Ask, Job, serve

RETURNS = {"filter": "bool", "map": "str", "score": "float"}


def call(ask: Ask) -> str:
    """Return a question as BlendSQL's SQL has it."""
    prompt = ask.prompt.replace("'", "''")
    scale = " Answer with a number from 1 to 5." if ask.kind == "score" else ""
    values = ", ".join(f"t.{name}" for name in ask.fields)
    return f"{{{{LLMMap('{prompt}{scale}', {values}, return_type='{RETURNS[ask.kind]}')}}}}"


def statement(job: Job) -> str:
    """Return the job's statement."""
    calls = {ask.kind: call(ask) for ask in job.asks}
    wanted = next((calls[kind] for kind in ("map", "score") if kind in calls), None)
    what = "t.id" if wanted is None else f"t.id, {wanted} AS answer"
    where = f" WHERE {calls['filter']} = TRUE" if "filter" in calls else ""
    limit = f" LIMIT {job.limit}" if job.limit else ""
    return f"SELECT {what} FROM t{where}{limit}"


def _client(url: str) -> openai.AsyncOpenAI:
    """Return a client that keeps no connection: a kept one is bound to an event loop."""
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_keepalive_connections=0)
    http_client = openai.DefaultAsyncHttpxClient(limits=limits)
    return openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http_client)


def open_system(url: str, model: str) -> Callable[[Job], Answered]:
    """Return what runs a job with BlendSQL."""

    def run(job: Job) -> Answered:
        config.set_default_max_tokens(job.max_tokens)
        # One per statement: its client does not outlive the event loop of a call in SQL.
        served = VLLM(model, base_url=url, extra_body={"temperature": 0.0}, caching=False)
        if len(job.asks) > 1:
            served.client = _client(url)
        system = BlendSQL({"t": pd.DataFrame(job.rows)}, model=served, ingredients={LLMMap})
        rows = system.execute(statement(job)).pl().rows()
        if len(job.asks) == 1 and job.asks[0].kind == "filter":
            return Answered(passed=[row[0] for row in rows])
        answers = [(row[0], row[1]) for row in rows]
        return Answered(answers=answers, failures=sum(answer is None for _, answer in answers))

    return run


if __name__ == "__main__":
    serve(open_system)
