"""What the connections to one database share: functions, providers, answers, history."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import pyarrow as pa

from quackllm.engine.budget import Budget, Spent
from quackllm.engine.cache import (
    AnswerCache,
    MemoryCache,
    NoCache,
    PersistentCache,
    Question,
    question_of,
)
from quackllm.engine.cache.batches import BatchRecords
from quackllm.engine.cache.places import IN_MEMORY, default_path, place
from quackllm.engine.events import EventStream, Notice, StatementFinished, StatementStarted
from quackllm.engine.history import Failure, StatementStats
from quackllm.engine.loop import Interruption, LoopThread
from quackllm.engine.offline import IN_PROCESS, refuse_unless_here, refuse_unless_local
from quackllm.engine.opened import OpenedProviders
from quackllm.engine.providers.base import Capabilities, Provider
from quackllm.engine.providers.config import Address, ProviderConfig, Secret
from quackllm.engine.providers.loaded_models import LoadedModels
from quackllm.engine.providers.registry import Providers, choose, from_environment
from quackllm.engine.providers.replicas import members_of, open_replicas
from quackllm.engine.redaction import Redact, redacted_fields
from quackllm.engine.run import Run
from quackllm.engine.secrets import OPENAI, NamedSecret, secret_for
from quackllm.engine.sending_order import Orderer, SendingOrder, as_given, by_prefix
from quackllm.engine.settings import Settings, in_bytes
from quackllm.engine.stored import StoredNames
from quackllm.engine.table_functions.registry import TableFunctions
from quackllm.engine.token_lengths import FEWEST_ROWS, TokenLengths, token_lengths
from quackllm.engine.traffic.endpoint import Endpoint
from quackllm.errors import ModelNotAllowed, ModelNotFound, QuackLLMError
from quackllm.optimizer.cost import Price
from quackllm.udfs.base import Call
from quackllm.udfs.registry import Functions

REMEMBERED_STATEMENTS = 1_000
REMEMBERED_FAILURES = 100_000


@dataclass(frozen=True)
class NamedModel:
    """What CREATE MODEL gives a name to; None takes the connection's setting."""

    name: str
    model: str | None = None
    base_url: Address | None = None
    api_key: Secret | None = None
    provider: str | None = None
    tokenizer: str | None = None
    batch_price: float | None = None
    input_price: float | None = None
    cached_input_price: float | None = None
    output_price: float | None = None


class Engine:
    """One engine serves a connection and all its cursors, from any thread."""

    def __init__(
        self,
        *,
        functions: Functions | None = None,
        providers: Providers | None = None,
        provider: Provider | None = None,
        cache: AnswerCache | None = None,
        orderer: Orderer = by_prefix,
        environ: Mapping[str, str] | None = None,
        redact: Redact | None = None,
    ) -> None:
        """Make an engine.

        functions, providers: what is installed, unless given.
        provider: answers every call, whatever the settings say; for tests and for
            providers of one's own. Its answers are kept in memory unless llm_cache_path
            is set: nobody but its author knows what else they depend on.
        cache: keeps the answers, whatever the settings say.
        orderer: decides the sending order of rows and fields.
        environ: the environment to read; the process's own when None.
        redact: is given every text of a value before it is asked about.
        """
        self.functions = functions or Functions.load()
        self.providers = providers or Providers.installed()
        self.cache = cache
        self.events = EventStream()
        self.loop = LoopThread()
        self.history: deque[StatementStats] = deque(maxlen=REMEMBERED_STATEMENTS)
        self.failures: deque[Failure] = deque(maxlen=REMEMBERED_FAILURES)
        self.spent = Spent()
        self.models: dict[str, NamedModel] = {}
        self.secrets: dict[str, NamedSecret] = {}
        self.table_functions = TableFunctions()
        self.stored = StoredNames(self.table_functions.mentioned_in)
        self._given = provider
        self._orderer = orderer
        self._environ = os.environ if environ is None else environ
        self._redact = redact
        self._opened = OpenedProviders(self._open)
        self._loaded = LoadedModels(self._opened)
        self._lengths: dict[tuple[str, ...], TokenLengths | None] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._memory = MemoryCache()
        self._caches: dict[tuple[str | None, str], AnswerCache] = {}
        self._batch_records: dict[Path | None, BatchRecords] = {}
        self._runs: dict[str, Run] = {}
        self._statements = 0
        self._lock = Lock()

    @property
    def opened(self) -> list[Provider]:
        """Providers that have been used."""
        given = [self._given] if self._given is not None else []
        opened = (provider for _, provider in self._opened)
        return [*given, *(member for provider in opened for member in members_of(provider))]

    def provider(
        self,
        settings: Settings,
        call: Call,
        interruption: Interruption | None = None,
        seconds: float | None = None,
        user: str | None = None,
    ) -> Provider:
        """Return the provider that answers a call, opened at its first use.

        user: the statement that keeps it open until its end.

        Raises a `ProviderError` when it cannot be reached, and `SettingError`;
        `StatementCancelled` when the interruption is asked for meanwhile, and
        `TimeoutError` when that takes longer than `seconds`.
        """
        refuse_unless_allowed(settings, call)
        if self._given is not None:
            if settings.offline:
                refuse_unless_here(self._given.endpoint)
            return self._given
        config = self.provider_config(settings, call)
        if settings.offline:
            refuse_unless_local(config, self._environ)
        found = self._opened.find(config, user)
        if found is None:
            found = self.loop.run(self._opened_within(seconds, config), interruption)
        return found

    async def _opened_within(self, seconds: float | None, config: ProviderConfig) -> Provider:
        async with asyncio.timeout(seconds):
            return await self._opened.get(config)

    async def _open(self, config: ProviderConfig) -> Provider:
        if config.also:
            return await open_replicas(config, self._open)
        return await self.providers.open(replace(config, holder=config), self._environ)

    def dimensions(self, settings: Settings, call: Call) -> int:
        """Return how many numbers the model of a call gives for an embedding.

        Raises what opening its provider does, and `ModelNotFound` for one that gives none.
        """
        provider = self.provider(settings, call)
        found = provider.capabilities.dimensions
        if found is None:
            raise ModelNotFound(
                f"{provider.model} at {provider.endpoint} makes no embeddings: "
                "SET llm_embedding_model = '...' for a model that does"
            )
        return found

    def provider_config(self, settings: Settings, call: Call) -> ProviderConfig:
        """Put together what a provider is opened with.

        A named model counts before the settings, and a key of theirs before a secret.
        """
        config = self._with_secret(self._configured(settings, call))
        return replace(config, also=tuple(map(self._with_secret, config.also)))

    def _with_secret(self, config: ProviderConfig) -> ProviderConfig:
        if config.api_key or config.credentials or config.provider not in (None, "openai"):
            return config
        url = config.base_url or self._environ.get("OPENAI_BASE_URL") or OPENAI
        return replace(config, api_key=secret_for(self.secrets.values(), url))

    def _configured(self, settings: Settings, call: Call) -> ProviderConfig:
        wanted = wanted_model(settings, call)
        config = ProviderConfig(
            provider=settings.provider,
            model=wanted,
            embeds=call.embeds,
            api_key=settings.api_key,
            timeout=settings.call_timeout,
            concurrency=settings.concurrency,
            calibrate=settings.calibrate,
            session_header=settings.session_header,
            cache_marks=settings.cache_marks,
            tokenizer=settings.tokenizer,
            vllm_options=settings.vllm_options,
            notify=self.notify,
            loaded=self._loaded,
            max_loaded_models=settings.max_loaded_models,
        )
        named = None if wanted is None else self.models.get(wanted.lower())
        if named is None:
            return config.at(settings.base_url)
        own_place = named.base_url is not None or named.provider is not None
        return replace(
            config,
            model=named.model or named.name,
            tokenizer=named.tokenizer,
            api_key=named.api_key if own_place else named.api_key or config.api_key,
            provider=named.provider if own_place else config.provider,
        ).at(named.base_url if own_place else settings.base_url)

    def endpoint(self, settings: Settings, provider: Provider) -> Endpoint:
        """Return the way to a provider's endpoint, which all statements share."""
        can = provider.capabilities
        batch = can.texts_per_request
        start = batch * settings.concurrency if settings.concurrency else can.concurrency
        most = start if settings.concurrency else can.most_concurrency or start
        with self._lock:
            found = self._endpoints.get(provider.endpoint)
            if found is None:
                found = Endpoint(start, most, notify=self.notify)
                self._endpoints[provider.endpoint] = found
        found.concurrency.change(start, most)
        return found

    def cache_for(self, call: Call, settings: Settings) -> AnswerCache:
        """Return the cache that a call may use.

        An answer at a temperature above 0 is one of many: without a seed it is kept for
        other statements only where the call asks for that.
        """
        use = settings.cache if call.cache is None else call.cache
        by_chance = call.temperature > 0 and call.seed is None and not call.cache
        return self.answers(settings) if use and not by_chance else NoCache()

    def answers(self, settings: Settings) -> AnswerCache:
        """Return the cache that the settings name, opened at its first use."""
        if self.cache is not None:
            return self.cache
        named = settings.cache_path
        if named == IN_MEMORY or (named is None and self._given is not None):
            return self._memory
        with self._lock:
            found = self._caches.get((named, settings.cache_limit))
            if found is None:
                found = self._open_cache(settings)
                self._caches[named, settings.cache_limit] = found
        return found

    def _open_cache(self, settings: Settings) -> AnswerCache:
        path = place(settings.cache_path, self._environ)
        if path is None:
            return self._memory
        return PersistentCache(
            path,
            limit=in_bytes(settings.cache_limit),
            notify=self.notify,
            is_default=path == default_path(),
        )

    def price(self, settings: Settings, call: Call) -> Price | None:
        """Return the price of a call's tokens, None unless that of input and output is given.

        A named model has the prices that CREATE MODEL gave it, llm_model those of the
        settings; of any other model no price is known. Embeddings have no output to pay.
        """
        given = self._price_list(settings, call)
        if given is None:
            return None
        output = 0.0 if call.embeds else given.output_price
        if given.input_price is None or output is None:
            return None
        price = Price(given.input_price, output, given.cached_input_price)
        part = self.batch_price(settings, call)
        return price if part is None else price.times(part)

    def batch_price(self, settings: Settings, call: Call) -> float | None:
        """Return the part of its price that a call by batch costs; None where it costs it all."""
        given = self._price_list(settings, call)
        return given.batch_price if given and settings.sends_by_batch(call) else None

    def _price_list(self, settings: Settings, call: Call) -> Settings | NamedModel | None:
        """Return what names the prices of the model of a call, if anything does."""
        wanted = wanted_model(settings, call)
        named = None if wanted is None else self.models.get(wanted.lower())
        if named is None and (call.embeds or call.model not in (None, settings.model)):
            return None
        return named or settings

    def batch_records(self, cache: AnswerCache) -> BatchRecords:
        """Return the record of batches that belongs to a cache of answers."""
        path = cache.path if isinstance(cache, PersistentCache) else None
        with self._lock:
            found = self._batch_records.get(path)
            if found is None:
                found = self._batch_records[path] = BatchRecords(path)
        return found

    def redacted(self, text: str, settings: Settings | None = None) -> str:
        """Return a text with '***' for every key that is known here, or in the settings."""
        configs = (
            *(config for config, _ in self._opened),
            from_environment(ProviderConfig(), self._environ),
        )
        hidden = [secret for config in configs for secret in config.secrets()]
        hidden += [secret.key for secret in tuple(self.secrets.values())]
        hidden += [model.api_key for model in tuple(self.models.values()) if model.api_key]
        if settings is not None and settings.api_key is not None:
            hidden.append(settings.api_key)
        for secret in hidden:
            text = secret.redact(text)
        return text

    def without_keys(self, error: QuackLLMError) -> QuackLLMError:
        """Take keys out of the message of an error: servers repeat what they are sent."""
        error.args = (self.redacted(str(error)),)
        return error

    def notify(self, text: str) -> None:
        """Tell the person one line, without keys."""
        self.events.emit(Notice(self.redacted(text)))

    def begin(self, settings: Settings, sql: str) -> Run:
        """Begin a statement."""
        sql = self.redacted(sql, settings)
        with self._lock:
            self._statements += 1
            number = self._statements
        stats = StatementStats(number, sql, time.time())
        run = Run(self, settings, stats, Budget(settings, self.spent))
        self._runs[run.id] = run
        self.history.append(stats)
        self.events.emit(StatementStarted(number, sql))
        return run

    def end(self, run: Run, seconds: float, error: BaseException | None = None) -> None:
        """End a statement; its naive calls can no longer be made."""
        self._runs.pop(run.id, None)
        self._opened.leave(run.id)
        for cache in (self.cache, *self._caches.values()):
            if cache is not None:
                cache.flush()
        run.stats.seconds = seconds
        if run.stats.stages:
            with self._lock:
                self.spent.seconds += seconds
        if error is not None:
            run.stats.error = self.redacted(f"{type(error).__name__}: {error}")
        self.events.emit(
            StatementFinished(
                run.stats.number, seconds, None if error is None else type(error).__name__
            )
        )

    def running(self, number: str) -> Run | None:
        """Return the statement of that number while it runs.

        Number '': the statement that a call in a view or a macro belongs to, if only one
        runs that can hold such calls.
        """
        if number:
            return self._runs.get(number)
        reading = [run for run in list(self._runs.values()) if run.reads_stored]
        return reading[0] if len(reading) == 1 else None

    def shown(self, fields: Sequence[pa.Array]) -> Sequence[pa.Array]:
        """Return what a model is shown of rendered fields: all but what is redacted.

        Answers are known by what was shown, so rows that differ only in what is redacted
        are one question, and no answer outlives a change of the redaction.
        """
        return fields if self._redact is None else redacted_fields(self._redact, fields)

    def order(
        self,
        settings: Settings,
        call: Call,
        columns: Sequence[pa.Array],
        provider: Provider,
        interruption: Interruption | None = None,
    ) -> SendingOrder:
        """Decide the order in which the rows of a batch are sent."""
        orderer = self._orderer if settings.reorder else as_given
        key = self._of_prompts(call, provider)
        several = bool(columns) and len(columns[0]) >= FEWEST_ROWS and not call.embeds
        if key not in self._lengths and several and orderer is not as_given:
            measured = token_lengths(provider, call, columns)
            self._lengths[key] = self.loop.run(measured, interruption)
        return orderer(call, columns, provider.capabilities, self._lengths.get(key))

    @staticmethod
    def _of_prompts(call: Call, provider: Provider) -> tuple[str, ...]:
        """Return what calls have in common whose prompts are equally long."""
        return provider.endpoint, provider.model, call.declaration.instruction, *call.fields

    def expected_order(
        self, settings: Settings, call: Call, columns: Sequence[pa.Array]
    ) -> SendingOrder:
        """Decide it for EXPLAIN: by what is known of the provider without opening it."""
        provider = self.opened_provider(settings, call)
        can = provider.capabilities if provider else Capabilities()
        lengths = self._lengths.get(self._of_prompts(call, provider)) if provider else None
        order = self._orderer(call, columns, can, lengths)
        return order if settings.reorder else replace(order, reused=order.reused_unordered)

    def likely_question(
        self, call: Call, settings: Settings, cache: AnswerCache
    ) -> Question | None:
        """Return what a call will ask, for EXPLAIN: who answers is not asked who it is.

        Of a provider that was not used yet, it is what the same call asked the last time.
        """
        provider = self.opened_provider(settings, call)
        if provider is not None:
            return question_of(call, provider)
        try:
            config = from_environment(self.provider_config(settings, call), self._environ)
            name = choose(config, self._environ)
        except QuackLLMError:  # it will be told when the statement runs
            return None
        endpoint = IN_PROCESS.get(name, config.base_url or "")
        return cache.similar(Question(call.identity, endpoint, config.model or ""))

    def opened_provider(self, settings: Settings, call: Call) -> Provider | None:
        """Return the provider that answers a call, if it has been used already."""
        return self._given or self._opened.find(self.provider_config(settings, call))

    def close(self) -> None:
        """End statements that run; release providers, the background thread and the cache.

        May be called twice.
        """
        for run in list(self._runs.values()):
            run.interrupt()
        for provider in self._opened.take_all():
            self.loop.run(provider.aclose())
        self.loop.close()
        for cache in tuple(self._caches.values()):
            cache.close()


def wanted_model(settings: Settings, call: Call) -> str | None:
    """Return the model that a call names, else that of the settings for calls of its kind."""
    return call.model or (settings.embedding_model if call.embeds else settings.model)


def refuse_unless_allowed(settings: Settings, call: Call) -> None:
    """Raise `ModelNotAllowed` unless `llm_allowed_models` lets the model of a call answer."""
    if settings.allowed_models is None:
        return
    allowed = [name.strip() for name in settings.allowed_models.split(",")]
    wanted = wanted_model(settings, call)
    if wanted is None or wanted.lower() not in [name.lower() for name in allowed]:
        shown = "the default model" if wanted is None else f"the model '{wanted}'"
        raise ModelNotAllowed(
            f"{shown} may not answer: llm_allowed_models allows {', '.join(allowed)}"
        )
