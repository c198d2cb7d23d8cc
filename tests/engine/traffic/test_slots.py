"""Turns: in the order of asking, never more than the limit, none lost to a cancellation."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from quackllm.engine.traffic.slots import Slots


def test_turns_come_in_the_order_of_asking() -> None:
    async def main() -> list[int]:
        slots = Slots(lambda: 1)
        order: list[int] = []

        async def take(number: int) -> None:
            turn = await slots.acquire()
            order.append(number)
            await asyncio.sleep(0)
            turn.release()

        await asyncio.gather(*(take(number) for number in range(20)))
        return order

    assert asyncio.run(main()) == list(range(20))


def test_a_turn_is_given_back_once_however_often_it_is_released() -> None:
    async def main() -> None:
        slots = Slots(lambda: 2)
        turn = await slots.acquire()
        turn.release()
        turn.release()
        assert slots.taken == 0
        await turn.resume()
        await turn.resume()
        assert slots.taken == 1

    asyncio.run(main())


# Each step: a task begins to wait, ends its turn, or is cancelled; or the limit moves.
STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "cancel", "limit", "end"]), st.integers(0, 7)),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@example([("begin", 0)] * 5 + [("begin", 1), ("cancel", 0), ("cancel", 1), ("limit", 0)])
@given(STEPS)
def test_no_slot_is_lost_and_the_limit_holds_whoever_is_cancelled_when(
    steps: list[tuple[str, int]],
) -> None:
    async def main() -> None:
        limit, tasks = 3, []
        slots = Slots(lambda: limit)
        leave = [asyncio.Event() for _ in range(8)]

        async def hold(event: asyncio.Event) -> None:
            turn = await slots.acquire()
            try:
                await event.wait()
            finally:
                turn.release()

        async def let_them_run() -> None:
            # A lower limit takes no slot away, but none is given beyond it.
            before = slots.taken
            await asyncio.sleep(0)
            assert slots.taken <= max(limit, before)

        for step, number in steps:
            if step == "begin":
                tasks.append(asyncio.create_task(hold(leave[number])))
            elif step == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif step == "limit":
                limit = number + 1
            elif step == "end":
                leave[number].set()
            if number % 2:
                await let_them_run()
        for event in leave:
            event.set()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert slots.taken == 0
        assert not slots.wanted

    asyncio.run(main())
