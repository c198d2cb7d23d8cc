"""Answers that are already there, so that nothing is asked twice."""

from __future__ import annotations

from quackllm.engine.cache.base import AnswerCache, Claimed, Entry, NoCache, Selection
from quackllm.engine.cache.memory import MemoryCache
from quackllm.engine.cache.persistent import PersistentCache
from quackllm.engine.cache.question import Question, question_of

__all__ = [
    "AnswerCache",
    "Claimed",
    "Entry",
    "MemoryCache",
    "NoCache",
    "PersistentCache",
    "Question",
    "Selection",
    "question_of",
]
