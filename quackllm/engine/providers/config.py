"""What a provider is opened with."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from quackllm.engine.providers.loaded_models import LoadedModels

if TYPE_CHECKING:
    from collections.abc import Callable


# A comma may stand in a path; one that a URL follows separates two.
_BETWEEN_URLS = re.compile(r"\s*,\s*(?=\w+://)")

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
    also: further addresses that serve the same model.
    """

    url: str
    credentials: Secret | None = None
    also: tuple[Address, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Take a URL apart. Raises `ValueError` for one that cannot be read."""
        text = text.strip()
        if any(map(str.isspace, text)):
            raise ValueError("there is a blank in it; of several, each begins with http://")
        parts = urlsplit(text)
        if parts.port == 0:  # reading it also finds ports that are none
            raise ValueError("Port out of range 0-65535")
        user, at, host = parts.netloc.rpartition("@")
        url = urlunsplit((parts.scheme, host, parts.path, "", ""))
        return cls(url, Secret(user) if at else None)

    @classmethod
    def parse_all(cls, text: str) -> Address:
        """Take one or several URLs apart, separated by commas; the first has the others.

        Raises `ValueError` for one that cannot be read.
        """
        first, *others = [cls.parse(part) for part in _BETWEEN_URLS.split(text.strip(" ,"))]
        return replace(first, also=tuple(others))

    def __str__(self) -> str:
        scheme, slashes, rest = self.url.partition("//")
        shown = self.url if self.credentials is None else f"{scheme}{slashes}***@{rest}"
        return ", ".join([shown, *map(str, self.also)])

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
    model: name of a model that the server serves, or the path of a GGUF file or of a directory.
    embeds: whether embeddings are wanted of the model, and not answers.
    base_url: address of an OpenAI-compatible server, with its `/v1`.
    api_key: sent as a bearer token, shown nowhere.
    credentials: 'user:password' for a server that asks for them; those in `base_url` are
        moved here.
    timeout: seconds that one try of a call may take.
    concurrency: calls in flight; the provider's own choice when None.
    calibrate: whether labels are chosen by calibrated log-probabilities; None: where that is
        known to be better.
    session_header: name of a header that says which requests share a prefix, for routers.
    cache_marks: mark in the prompts where a prefix that is worth caching ends.
    tokenizer: path of the model's `tokenizer.json`, or of a directory with it, for a server.
    vllm_options: what vLLM in this process is started with, as `vllm_options` writes it.
    also: what else serves the same model, besides `base_url`.
    follow_redirects: go where a response points to. No setting sets it: texts would go to
        an address that nobody named. Faults of TLS and DNS are injected by it in tests.
    notify: takes one line for the person, such as which model is used.
    loaded: the models in this process's memory, which providers of one connection share.
    max_loaded_models: how many of them that no running statement uses may stay there.
    holder: the config by which a provider can be closed to make room for another model; None
        for one that its opener closes.
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
    session_header: str | None = None
    cache_marks: bool = False
    tokenizer: str | None = None
    vllm_options: str | None = None
    follow_redirects: bool = False
    also: tuple[ProviderConfig, ...] = ()
    notify: Callable[[str], None] = field(default=_ignore, compare=False, repr=False)
    loaded: LoadedModels = field(default_factory=LoadedModels, compare=False, repr=False)
    max_loaded_models: int = field(default=1, compare=False, repr=False)
    holder: ProviderConfig | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Take user and password out of the address."""
        if self.base_url is not None and "@" in self.base_url:
            address = Address.parse(self.base_url)
            object.__setattr__(self, "base_url", address.url)
            object.__setattr__(self, "credentials", address.credentials)

    def at(self, address: Address | None) -> ProviderConfig:
        """Return the same for the server at an address, and those that it names besides."""
        if address is None:
            return self
        others = tuple(self.at(other) for other in address.also)
        return replace(self, base_url=address.url, credentials=address.credentials, also=others)

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
        others = (secret for config in self.also for secret in config.secrets())
        return (*(secret for secret in found if secret is not None), *others)
