"""What an answer is the answer to, as a digest that is the same in every process."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from quackllm.engine.providers.base import Provider
    from quackllm.udfs.base import Call

DIGEST_BYTES = 16

FORMAT = 1
"""Raised when the same question is to have another digest."""

_THIS_MACHINE = ("127.0.0.1", "::1")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Question:
    """What the rows of one stage have in common: a call's identity and the model.

    identity: `Call.identity`.
    endpoint, model: where the model runs, without credentials, and its name there.
    revision: what the server says of the model behind the name; None when nothing.
    weights: names the weights exactly; then endpoint, name and revision do not count.
    function, version: parts of the identity, for people to look at.
    vectors: whether the answers are texts of vectors, which a database keeps as bytes.
    """

    identity: str
    endpoint: str
    model: str
    revision: str | None = None
    weights: str | None = None
    function: str = field(default="", compare=False)
    version: int = field(default=1, compare=False)
    vectors: bool = field(default=False, compare=False)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that stand for the question."""
        if self.weights is not None:
            asked = ["weights", self.weights]
        else:
            asked = ["place", same_place(self.endpoint), self.model, self.revision or ""]
        text = json.dumps([FORMAT, self.identity, *asked])
        return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()

    @cached_property
    def _begun(self) -> blake2b:
        """A hash that has taken the question; copying it is twice as fast as keyed hashes."""
        return blake2b(self.digest, digest_size=DIGEST_BYTES)

    @cached_property
    def number(self) -> int:
        """The first 63 bits of the digest: tells questions apart in listings."""
        return int.from_bytes(self.digest[:8]) >> 1

    def keys(self, texts: list[str]) -> list[bytes]:
        """Return the digest of each row's answer, from its fields as `answer_keys` joins them."""
        begun = self._begun
        digests = []
        for text in texts:
            one = begun.copy()
            one.update(text.encode("utf-8", "surrogatepass"))
            digests.append(one.digest())
        return digests


def question_of(call: Call, provider: Provider) -> Question:
    """Return what a call asks of a provider."""
    can = provider.capabilities
    return Question(
        identity=call.identity,
        endpoint=provider.endpoint,
        model=provider.model,
        revision=can.revision,
        weights=can.weights,
        function=call.function,
        version=call.version,
        vectors=call.embeds,
    )


def same_place(endpoint: str) -> str:
    """Write an address in one way: the case of its host, a default port and such are no matter."""
    parts = urlsplit(endpoint)
    if not parts.scheme or parts.hostname is None:
        return endpoint
    host = "localhost" if parts.hostname in _THIS_MACHINE else parts.hostname
    try:
        port = parts.port
    except ValueError:  # no number: nothing will answer there
        return endpoint
    if port is not None and port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
