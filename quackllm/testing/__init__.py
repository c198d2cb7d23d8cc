"""Fakes for tests: of quackllm, and of whoever uses it."""

from quackllm.testing.fake_provider import NONSENSE, FakeProvider, Fault, deterministic_answer
from quackllm.testing.http_faults import HttpFault, every_fault
from quackllm.testing.server import FakeServer, Received

__all__ = [
    "NONSENSE",
    "FakeProvider",
    "FakeServer",
    "Fault",
    "HttpFault",
    "Received",
    "deterministic_answer",
    "every_fault",
]
