"""The same filter prompts at a real vLLM server, in each form that it takes them in.

    make vllm
    python -m benchmarks.http_client.call_forms [--rows N] [--rounds N] [--only LOAD] [--forms FORM]

Every form asks for one token, held to the labels of a filter, of the same rendered prompts.
One round sends each form once, in another order each time; shown are medians of the rounds.
The prefix cache is emptied before each run, except for `cached`, where every prompt has
been sent before: the model then has little work for each, as on a fast GPU.
Nothing is measured through the engine of quackllm, which costs the same with every form.

API: processor time of the process that listens, per prompt; engine: of those behind it; client:
of this process. Same: answers equal to those of single chat completions. Reused: share of the
prompt tokens that came from the prefix cache, by the server's metrics; reported: share of
those that its replies tell of, - where they tell nothing.

A model without weights, whose answers cost nearly nothing, shows what is left beside a fast GPU:

    python -m tools.vllm_server start ... --model TINY -- --load-format dummy --enforce-eager

where TINY is a copy of a model's folder, without weights, whose config.json has one layer.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import openai
import psutil

from benchmarks.prompts.labels import Task, sample
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.openai_compatible import open_client
from quackllm.engine.providers.prompts import chat_messages
from quackllm.engine.providers.short_labels import begun

LABELS = ("true", "false")
HELD = {"structured_outputs": {"choice": list(LABELS)}}
IN_FLIGHT = 64
LONGEST_REQUEST = 600.0
INSTRUCTION_MARK, ROW_MARK = "INSTRUCTIONGOESHERE", "ROWGOESHERE"

REVIEWS = Task(
    "long",
    "SELECT synopsis, review, critic, publisher, genre, director, "
    "(fresh = 'fresh')::VARCHAR AS label FROM 'tables/rt_reviews.parquet' "
    "JOIN (FROM 'tables/rt_movies.parquet' ORDER BY movie_id LIMIT 40) USING (movie_id) "
    "WHERE review IS NOT NULL",
    "Does the critic like the film?",
)
SENTENCES = Task(
    "short",
    "SELECT sentence AS text, (label = 'POSITIVE')::VARCHAR AS label "
    "FROM (FROM 'tables/sst2.parquet' WHERE length(sentence) < 60)",
    "Is this review positive?",
)

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Load:
    """Prompts of one filter. warm: they are all in the prefix cache when they are timed."""

    name: str
    prompts: Sequence[Messages]
    warm: bool = False


@dataclass
class Answers:
    """Labels in the order of the prompts, and the cached tokens that replies report."""

    labels: dict[int, str] = field(default_factory=dict)
    reported: int | None = None

    def add(self, position: int, text: str) -> None:
        """Keep the label that an answer begins."""
        self.labels[position] = begun(text, LABELS) or text

    def count(self, usage: Mapping[str, Any]) -> None:
        """Add what a reply says was cached."""
        details = usage.get("prompt_tokens_details") or {}
        if details.get("cached_tokens") is not None:
            self.reported = (self.reported or 0) + details["cached_tokens"]


@dataclass(frozen=True)
class Run:
    """One form at one load. Seconds; processor seconds per prompt; labels in order.

    reused: share of the prompt tokens that the server had computed before. reported: share
        of those that the replies tell of, None where they tell nothing.
    """

    seconds: float
    api: float
    engine: float
    client: float
    labels: tuple[str, ...]
    reused: float
    reported: float | None


class Server:
    """A vLLM server on this machine, started with VLLM_SERVER_DEV_MODE=1."""

    def __init__(self, url: str) -> None:
        self.url = url.removesuffix("/v1")
        opened = open_client(url, ProviderConfig(base_url=url))
        self.client = opened.with_options(timeout=LONGEST_REQUEST, max_retries=2)
        self.process = listener(urlsplit(url).port or 80)
        self.model = ""

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the reply to a body without the model's name."""
        if not self.model:
            listing: Any = await self.client.get(f"{self.url}/v1/models", cast_to=object)
            self.model = listing["data"][0]["id"]
        whole = {"model": self.model, **body}
        return await self.client.post(self.url + path, cast_to=object, body=whole)

    async def empty_cache(self) -> None:
        """Forget every prefix."""
        await self.client.post(f"{self.url}/reset_prefix_cache", cast_to=object)

    async def prefix_cache(self) -> tuple[float, float]:
        """Return the prompt tokens counted since the start, and those of them reused."""
        text: str = await self.client.get(f"{self.url}/metrics", cast_to=str)
        tokens, reused = (
            sum(
                float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if line.startswith(f"vllm:prefix_cache_{name}_total")
            )
            for name in ("queries", "hits")
        )
        return tokens, reused

    def processor(self) -> tuple[float, float]:
        """Return the processor seconds so far of the API process, and of those behind it."""
        behind = self.process.children(recursive=True)
        return spent(self.process), sum(map(spent, behind))


def spent(process: psutil.Process) -> float:
    """Return the processor seconds of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def listener(port: int) -> psutil.Process:
    """Return the process that listens on a port of this machine."""
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
            return psutil.Process(found.pid)
    sys.exit(f"nobody listens on port {port}: make vllm")


@dataclass(frozen=True)
class Template:
    """The texts that the model's chat template puts around instruction and row.

    Exact for a template that puts messages one after the other and changes none of them:
    whether this one does is checked for every prompt before the first measurement.
    """

    before: str
    between: str
    after: str

    @classmethod
    async def learned(cls, server: Server) -> Template:
        """Learn it from one prompt, by way of its tokens."""
        marks = [
            {"role": "system", "content": INSTRUCTION_MARK},
            {"role": "user", "content": ROW_MARK},
        ]
        tokens = await server.post("/tokenize", {"messages": marks})
        text = await server.post("/detokenize", {"tokens": tokens["tokens"]})
        before, _, rest = text["prompt"].partition(INSTRUCTION_MARK)
        between, _, after = rest.partition(ROW_MARK)
        return cls(before, between, after)

    def render(self, messages: Messages) -> str:
        """Return the text that the model reads."""
        instruction, row = (message["content"] for message in messages)
        return f"{self.before}{instruction}{self.between}{row}{self.after}"

    async def check(self, server: Server, prompts: Sequence[Messages]) -> None:
        """End the program where the server would make other tokens of the messages."""
        for messages in prompts:
            text = {"prompt": self.render(messages), "add_special_tokens": False}
            ours = await server.post("/tokenize", text)
            theirs = await server.post("/tokenize", {"messages": messages})
            if ours["tokens"] != theirs["tokens"]:
                sys.exit("the chat template of this model cannot be rendered from its parts")


ONE_TOKEN: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0}
Ask = Callable[[Sequence[tuple[int, Messages]], Answers], Awaitable[None]]


@dataclass(frozen=True)
class Form:
    """How prompts become requests: `size` in each, `IN_FLIGHT` prompts on their way at most."""

    name: str
    ask: Ask
    size: int = 1

    async def answer(self, prompts: Sequence[Messages]) -> Answers:
        """Return the answers to all prompts."""
        rows, answers = list(enumerate(prompts)), Answers()
        requests = iter([rows[at : at + self.size] for at in range(0, len(rows), self.size)])

        async def work() -> None:
            for request in requests:
                await self.ask(request, answers)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT // self.size)))
        return answers


class Forms:
    """What each form asks of a server for some prompts."""

    def __init__(self, server: Server, template: Template, allowed: Sequence[int]) -> None:
        """Ask a server. allowed: every token that a label can begin with."""
        self._server, self._template, self._allowed = server, template, list(allowed)

    def all(self) -> list[Form]:
        """Return every form; the first is the one that quackllm uses."""
        single = [
            Form("chat, choice", self.chat(HELD)),
            Form("chat, allowed_token_ids", self.chat({"allowed_token_ids": self._allowed})),
            Form("completions, choice", self.completions),
        ]
        lists = [
            Form(f"{name} of {size}", ask, size)
            for name, ask in (
                ("chat/completions/batch", self.batch),
                ("completions", self.completions),
                ("completions, through /tokenize,", self.tokenized),
                ("generative_scoring", self.scoring),
            )
            for size in (16, 64)
            if size == IN_FLIGHT or "tokenize" not in name
        ]
        return single + lists

    def chat(self, held: Mapping[str, Any]) -> Ask:
        """Return the form of single chat completions."""

        async def ask(rows: Sequence[tuple[int, Messages]], answers: Answers) -> None:
            [(position, messages)] = rows
            body = {"messages": messages, **ONE_TOKEN, **held}
            said = await self._server.post("/v1/chat/completions", body)
            answers.add(position, said["choices"][0]["message"]["content"])
            answers.count(said["usage"])

        return ask

    async def batch(self, rows: Sequence[tuple[int, Messages]], answers: Answers) -> None:
        """Ask several conversations in one request."""
        body = {"messages": [messages for _, messages in rows], **ONE_TOKEN, **HELD}
        said = await self._server.post("/v1/chat/completions/batch", body)
        for (position, _), choice in zip(rows, said["choices"], strict=True):
            answers.add(position, choice["message"]["content"])
        answers.count(said["usage"])

    async def completions(self, rows: Sequence[tuple[int, Messages]], answers: Answers) -> None:
        """Ask with prompts rendered here, in one request."""
        texts = [self._template.render(messages) for _, messages in rows]
        await self._complete(rows, texts, answers)

    async def tokenized(self, rows: Sequence[tuple[int, Messages]], answers: Answers) -> None:
        """Ask with prompts that the server has rendered, one request for each."""
        replies = await asyncio.gather(
            *(self._server.post("/tokenize", {"messages": messages}) for _, messages in rows)
        )
        await self._complete(rows, [reply["tokens"] for reply in replies], answers)

    async def _complete(
        self,
        rows: Sequence[tuple[int, Messages]],
        prompts: Sequence[str | list[int]],
        answers: Answers,
    ) -> None:
        body = {"prompt": prompts, "add_special_tokens": False, **ONE_TOKEN, **HELD}
        said = await self._server.post("/v1/completions", body)
        for (position, _), choice in zip(rows, said["choices"], strict=True):
            answers.add(position, choice["text"])
        answers.count(said["usage"])

    async def scoring(self, rows: Sequence[tuple[int, Messages]], answers: Answers) -> None:
        """Ask for the probability of the first label against the other's."""
        body = {
            "query": [],
            "items": [self._template.render(messages) for _, messages in rows],
            "label_token_ids": self._allowed[: len(LABELS)],
        }
        said = await self._server.post("/generative_scoring", body)
        for (position, _), found in zip(rows, said["data"], strict=True):
            answers.add(position, LABELS[0] if found["score"] >= 0.5 else LABELS[1])
        answers.count(said["usage"])


async def opening_tokens(server: Server) -> list[int]:
    """Return the tokens that a label can begin with; first those that are whole labels."""
    texts = [*LABELS, *(label[:end] for label in LABELS for end in range(1, len(label)))]
    found = []
    for text in texts:
        body = {"prompt": text, "add_special_tokens": False}
        tokens = (await server.post("/tokenize", body))["tokens"]
        if len(tokens) == 1:
            found.append(tokens[0])
        elif text in LABELS:
            sys.exit(f"for this model '{text}' is no single token, which scoring takes")
    return found


async def run(server: Server, form: Form, load: Load) -> Run:
    """Send all prompts of a load in one form."""
    if not load.warm:
        await server.empty_cache()
    tokens, reused = await server.prefix_cache()
    api, engine = server.processor()
    wall, client = time.perf_counter(), time.process_time()
    answers = await form.answer(load.prompts)
    wall, client = time.perf_counter() - wall, time.process_time() - client
    api_after, engine_after = server.processor()
    tokens_after, reused_after = await server.prefix_cache()
    tokens, reused = tokens_after - tokens, reused_after - reused
    count = len(load.prompts)
    return Run(
        wall,
        (api_after - api) / count,
        (engine_after - engine) / count,
        client / count,
        tuple(answers.labels[position] for position in range(count)),
        reused / tokens,
        None if answers.reported is None or not reused else answers.reported / reused,
    )


async def measure(server: Server, load: Load, rounds: int, named: str = "") -> dict[str, list[Run]]:
    """Return the runs of the forms whose name has a word in it, and of the first."""
    template = await Template.learned(server)
    await template.check(server, load.prompts)
    first, *others = Forms(server, template, await opening_tokens(server)).all()
    forms = [first, *(form for form in others if named in form.name)]
    found: dict[str, list[Run]] = {form.name: [] for form in forms}
    await server.empty_cache()
    await run(server, forms[0], load)
    for form in forms[1:]:  # compiles grammars, opens connections
        await run(server, form, Load(load.name, load.prompts[:IN_FLIGHT], load.warm))
    for turn in range(rounds):
        start = turn * len(forms) // rounds
        for form in forms[start:] + forms[:start]:
            found[form.name].append(await run(server, form, load))
    return found


def table(load: Load, found: Mapping[str, Sequence[Run]]) -> str:
    """Return what was measured as a table of Markdown."""
    usual = next(iter(found.values()))
    base = statistics.median(each.seconds for each in usual)
    lines = [
        f"| {load.name}: form | s | of chat | prompts/s | API ms | engine ms | client ms | same "
        "| reused | reported |",
        f"|---|{'--:|' * 9}",
    ]
    for name, runs in found.items():
        seconds = statistics.median(each.seconds for each in runs)
        api, engine, client = (
            1e3 * statistics.median(getattr(each, of) for each in runs)
            for of in ("api", "engine", "client")
        )
        pairs = zip(runs[0].labels, usual[0].labels, strict=True)
        same = sum(ours == theirs for ours, theirs in pairs)
        reused = statistics.median(each.reused for each in runs)
        reported = "-" if runs[0].reported is None else f"{runs[0].reported:.2f}"
        lines.append(
            f"| {name} | {seconds:.2f} | {seconds / base:.2f} | {len(load.prompts) / seconds:.0f} "
            f"| {api:.2f} | {engine:.2f} | {client:.2f} | {same}/{len(load.prompts)} "
            f"| {reused:.2f} | {reported} |"
        )
    return "\n".join(lines)


def loads(rows: int) -> list[Load]:
    """Return what is sent, rows that begin alike one after the other."""
    long, short = (
        [
            chat_messages(request)
            for request in sorted(sample(task, rows)[0], key=lambda request: request.fields)
        ]
        for task in (REVIEWS, SENTENCES)
    )
    return [
        Load("long", long),
        Load("short", short),
        Load("long, cached", long[: rows // 2], warm=True),
        Load("short, cached", short, warm=True),
    ]


async def report(url: str, rows: int, rounds: int, only: str, named: str) -> None:
    """Measure every load and print its table."""
    server = Server(url)
    try:
        for load in loads(rows):
            if only in load.name:
                print(table(load, await measure(server, load, rounds, named)), flush=True)
    except openai.APIConnectionError as error:
        sys.exit(f"{url} does not answer ({error}): make vllm")
    finally:
        await server.client.close()


def main() -> None:
    """Read the arguments and report."""
    parser = argparse.ArgumentParser(description="Time of call forms on a vLLM server.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="loads whose name has this in it")
    parser.add_argument("--forms", default="", help="forms whose name has this in it")
    given = parser.parse_args()
    asyncio.run(report(given.url, given.rows, given.rounds, given.only, given.forms))


if __name__ == "__main__":
    main()
