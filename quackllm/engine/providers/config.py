"""What a provider is opened with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Secret:
    """A text that must not be shown: `str`, `repr` and f-strings give '***'.

    `reveal()` gives the text, at the one place that sends it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def redact(self, message: str) -> str:
        """Return the message with the secret, should it be in there, blotted out."""
        return message.replace(self._text, "***") if self._text else message

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled: it would be written out in clear")


def _ignore(_: str) -> None:
    """Drop a notice."""


@dataclass(frozen=True)
class ProviderConfig:
    """Everything that a provider may be told; None means that nobody said.

    provider: name of an installed provider; None chooses by the other settings.
    model: name of a model that the server serves, or the path of a GGUF file.
    base_url: address of an OpenAI-compatible server, with its `/v1`.
    api_key: sent as a bearer token, shown nowhere.
    timeout: seconds that one try of a call may take.
    concurrency: calls in flight; the provider's own choice when None.
    notify: takes one line for the person, such as which model is used.
    """

    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    api_key: Secret | None = None
    timeout: float = 120.0
    concurrency: int | None = None
    notify: Callable[[str], None] = field(default=_ignore, compare=False, repr=False)
