"""The thread of an inference engine: one thread, many prompts, and an end for each of them."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from quackllm.engine.providers.inference import EngineWorker, Prompt
from quackllm.engine.providers.loaded_models import LoadedModels
from quackllm.errors import ContextWindowExceeded, ProviderError
from tests.engine.stub_engine import StubEngine


def prompt(text: str, max_tokens: int = 5) -> Prompt:
    return Prompt([{"role": "user", "content": text}], max_tokens)


def test_prompts_are_computed_together_in_one_thread_that_is_not_ours() -> None:
    stub = StubEngine()

    async def main() -> None:
        worker = await EngineWorker.start(lambda: stub)
        asked = [worker.generate(prompt(f"row {n}")) for n in range(50)]
        found = await asyncio.gather(*asked)
        assert [one.prompt_tokens for one in found] == [len(f"row {n}") for n in range(50)]
        assert await worker.tokens(prompt("ab")) == [97, 98]
        worker.close()

    asyncio.run(main())
    assert stub.most_in_flight == 50
    assert stub.steps < 50, "a step is for all of them"
    assert len(stub.threads) == 1
    assert threading.get_ident() not in stub.threads
    assert stub.closed == 1


def test_what_comes_while_others_are_computed_joins_them() -> None:
    stub = StubEngine(seconds=0.005)

    async def main() -> None:
        worker = await EngineWorker.start(lambda: stub)
        first = asyncio.ensure_future(worker.generate(prompt("long", 100)))
        await asyncio.sleep(0.03)
        await worker.generate(prompt("short", 1))
        assert not first.done(), "nobody waits for the end of another"
        first.cancel()
        worker.close()

    stub.answer = lambda _: "x" * 100
    asyncio.run(main())
    assert stub.most_in_flight == 2


def test_a_cancelled_prompt_is_aborted_and_the_others_go_on() -> None:
    stub = StubEngine(answer=lambda _: "x" * 1000, seconds=0.002)

    async def main() -> None:
        worker = await EngineWorker.start(lambda: stub)
        endless = asyncio.ensure_future(worker.generate(prompt("endless", 1000)))
        await asyncio.sleep(0.02)
        endless.cancel()
        assert (await worker.generate(prompt("other", 3))).text == "xxx"
        for _ in range(100):
            if stub.aborted:
                break
            await asyncio.sleep(0.01)
        assert not stub.busy
        worker.close()

    asyncio.run(main())
    assert stub.aborted == ["1"]
    assert stub.steps < 500


def test_a_prompt_that_cannot_be_run_fails_alone() -> None:
    stub = StubEngine(window=20)

    async def main() -> None:
        worker = await EngineWorker.start(lambda: stub)
        asked = [worker.generate(prompt(text)) for text in ("fits", "too long" * 10, "fits too")]
        one, two, three = await asyncio.gather(*asked, return_exceptions=True)
        assert not isinstance(one, BaseException)
        assert isinstance(two, ContextWindowExceeded)
        assert not isinstance(three, BaseException)
        worker.close()

    asyncio.run(main())


def test_an_engine_that_fails_tells_everybody_and_is_not_used_again() -> None:
    stub = StubEngine(fails_at=2)

    async def main() -> None:
        worker = await EngineWorker.start(lambda: stub)
        asked = [worker.generate(prompt(f"row {n}")) for n in range(5)]
        for failure in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(failure, ProviderError)
            assert "RuntimeError: CUDA error: an illegal memory access; connect again" in str(
                failure
            )
            assert "long explanation" not in str(failure)
        with pytest.raises(ProviderError, match="illegal memory access"):
            await worker.generate(prompt("later"))
        worker.close()

    asyncio.run(main())
    assert stub.steps == 2
    assert stub.closed == 1


def test_closing_ends_the_thread_while_prompts_are_computed() -> None:
    stub = StubEngine(answer=lambda _: "x" * 100_000, seconds=0.001)
    before = threading.active_count()

    async def main() -> None:
        worker = await EngineWorker.start(lambda: stub)
        endless = asyncio.ensure_future(worker.generate(prompt("endless", 3000)))
        await asyncio.sleep(0.02)
        started = time.monotonic()
        worker.close()
        assert time.monotonic() - started < 1
        endless.cancel()
        with pytest.raises(ProviderError, match="closed"):
            await worker.generate(prompt("later"))

    asyncio.run(main())
    assert stub.closed == 1
    assert threading.active_count() == before


def test_nobody_waits_for_a_model_that_is_not_wanted_any_more() -> None:
    stub, may_go_on = StubEngine(), threading.Event()

    def slowly() -> StubEngine:
        may_go_on.wait(10)
        return stub

    async def main() -> None:
        loading = asyncio.ensure_future(EngineWorker.start(slowly))
        await asyncio.sleep(0.02)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        may_go_on.set()
        for _ in range(100):
            if stub.closed:
                break
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert stub.closed == 1


class Model:
    """A model in memory that knows whether it was freed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_model_is_loaded_once_and_freed_with_its_last_holder() -> None:
    made: list[Model] = []

    async def load() -> Model:
        await asyncio.sleep(0.01)
        made.append(Model())
        return made[-1]

    async def main() -> None:
        models = LoadedModels()
        one, two = await asyncio.gather(models.hold("a", load), models.hold("a", load))
        assert one.model is two.model
        assert (await models.hold("b", load)).model is not one.model
        one.release()
        assert one.model.closed == 0
        two.release()
        assert one.model.closed == 1
        assert (await models.hold("a", load)).model is not one.model, "it is gone"

    asyncio.run(main())
    assert len(made) == 3


def test_a_model_that_cannot_be_loaded_is_tried_again_by_the_next() -> None:
    tries = 0

    async def load() -> Model:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ProviderError("no memory")
        return Model()

    async def main() -> None:
        models = LoadedModels()
        both = await asyncio.gather(
            models.hold("a", load), models.hold("a", load), return_exceptions=True
        )
        assert [str(one) for one in both] == ["no memory", "no memory"]
        assert isinstance((await models.hold("a", load)).model, Model)

    asyncio.run(main())
    assert tries == 2


def test_the_last_who_waits_for_a_model_ends_its_loading() -> None:
    ended = False

    async def load() -> Model:
        nonlocal ended
        try:
            await asyncio.sleep(10)
        finally:
            ended = True
        return Model()

    async def main() -> None:
        models = LoadedModels()
        waiting = [asyncio.ensure_future(models.hold("a", load)) for _ in range(2)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        assert not ended
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert ended
