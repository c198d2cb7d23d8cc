"""Fakes for tests: of quackllm, and of whoever uses it."""

from quackllm.testing.fake_provider import NONSENSE, FakeProvider, Fault, deterministic_answer

__all__ = ["NONSENSE", "FakeProvider", "Fault", "deterministic_answer"]
