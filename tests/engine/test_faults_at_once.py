"""Promise 3 under every fault at once: rows are right, or NULL and recorded; nothing is left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.reliability.faults import Result, alternating, held, serving, total
from benchmarks.reliability.faults import run as ask
from benchmarks.reliability.soak import soak


def judged(results: Sequence[Result]) -> Result:
    """Check what holds whatever fails."""
    result = total(results)
    assert result.wrong == 0
    assert result.null == result.recorded
    assert result.right + result.null == result.rows
    return result


def test_a_fifth_of_the_tries_failing_in_every_way_makes_no_wrong_row() -> None:
    with serving(0.2, latency=0.0) as (con, server):
        result = judged([ask(con, server, 600)])
        assert result.tries > 600, "some were tried again"
        assert result.null < 30


def test_nearly_all_tries_failing_makes_no_wrong_row_either() -> None:
    with serving(0.2, each=True, latency=0.0) as (con, server):
        con.execute("SET llm_max_retries = 1")
        result = judged([ask(con, server, 100)])
        assert result.null > 50


@pytest.mark.slow
def test_most_of_the_throughput_is_left_and_no_thread_or_socket() -> None:
    before = held()
    clean, faulty = alternating(20_000, 2, 0.2, each=False, latency=0.3, seed=3)
    judged(clean)
    result = judged(faulty)
    assert result.rate > 0.6 * total(clean).rate
    threads, files = held()
    assert threads <= before[0] + 1
    assert files <= before[1] + 2


@pytest.mark.slow
def test_memory_stays_flat_under_faults_and_interruptions() -> None:
    samples, decided, wrong = soak(1.5, latency=0.02)
    assert (wrong, decided > 0) == (0, True)
    settled = samples[len(samples) // 3]
    assert samples[-1].resident < 1.15 * settled.resident
    assert samples[-1].threads <= settled.threads + 1
