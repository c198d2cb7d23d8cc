"""What a provider is opened with."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable


SHORTEST = 6
"""Characters of the shortest text that is looked for in messages."""


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
        """Return the message with the secret, should it be in there, blotted out.

        A text shorter than a key would be, such as the 'none' that local servers take, is
        left where it is: it would blot out words.
        """
        return message.replace(self._text, "***") if len(self._text) >= SHORTEST else message

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


@dataclass(frozen=True)
class Address:
    """A URL whose user and password are kept apart: `str` shows them as '***'.

    url: without user, query and fragment. credentials: 'user:password' as in the URL.
    """

    url: str
    credentials: Secret | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Take a URL apart. Raises `ValueError` for one that cannot be read."""
        parts = urlsplit(text.strip())
        if parts.port == 0:  # reading it also finds ports that are none
            raise ValueError("Port out of range 0-65535")
        user, at, host = parts.netloc.rpartition("@")
        url = urlunsplit((parts.scheme, host, parts.path, "", ""))
        return cls(url, Secret(user) if at else None)

    def __str__(self) -> str:
        if self.credentials is None:
            return self.url
        scheme, slashes, rest = self.url.partition("//")
        return f"{scheme}{slashes}***@{rest}"

    def within(self, scope: Address) -> bool:
        """Whether this address is the scope, or a path below it on the same server."""
        here, there = urlsplit(self.url), urlsplit(scope.url)
        if _server(here) != _server(there):
            return False
        path, prefix = here.path.rstrip("/"), there.path.rstrip("/")
        return path == prefix or path.startswith(prefix + "/")

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, told by the text alone: no name is looked up."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):  # never in DNS: RFC 6761
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def _server(parts: SplitResult) -> tuple[str, str | None, int | None]:
    ports = {"http": 80, "https": 443}
    return parts.scheme, parts.hostname, parts.port or ports.get(parts.scheme)


def _ignore(_: str) -> None:
    """Drop a notice."""


@dataclass(frozen=True)
class ProviderConfig:
    """Everything that a provider may be told; None means that nobody said.

    provider: name of an installed provider; None chooses by the other settings.
    model: name of a model that the server serves, or the path of a GGUF file.
    embeds: whether embeddings are wanted of the model, and not answers.
    base_url: address of an OpenAI-compatible server, with its `/v1`.
    api_key: sent as a bearer token, shown nowhere.
    credentials: 'user:password' for a server that asks for them; those in `base_url` are
        moved here.
    timeout: seconds that one try of a call may take.
    concurrency: calls in flight; the provider's own choice when None.
    calibrate: whether labels are chosen by calibrated log-probabilities; None: where that is
        known to be better.
    follow_redirects: go where a response points to. No setting sets it: texts would go to
        an address that nobody named. Faults of TLS and DNS are injected by it in tests.
    notify: takes one line for the person, such as which model is used.
    """

    provider: str | None = None
    model: str | None = None
    embeds: bool = False
    base_url: str | None = None
    api_key: Secret | None = None
    credentials: Secret | None = None
    timeout: float = 120.0
    concurrency: int | None = None
    calibrate: bool | None = None
    follow_redirects: bool = False
    notify: Callable[[str], None] = field(default=_ignore, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Take user and password out of the address."""
        if self.base_url is not None and "@" in self.base_url:
            address = Address.parse(self.base_url)
            object.__setattr__(self, "base_url", address.url)
            object.__setattr__(self, "credentials", address.credentials)

    @property
    def authorization(self) -> Secret | None:
        """The value of the header for a server that asks for user and password."""
        if self.credentials is None or self.api_key is not None:
            return None
        user, _, password = self.credentials.reveal().partition(":")
        pair = f"{unquote(user)}:{unquote(password)}".encode()
        return Secret("Basic " + base64.b64encode(pair).decode())

    def secrets(self) -> tuple[Secret, ...]:
        """Every text in here that must not be shown, in each form that a server may repeat."""
        found = [self.api_key, self.credentials]
        if self.credentials is not None:
            found.append(Secret(unquote(self.credentials.reveal().partition(":")[2])))
        if self.authorization is not None:
            found.append(Secret(self.authorization.reveal().removeprefix("Basic ").rstrip("=")))
        return tuple(secret for secret in found if secret is not None)
