"""The `llm_` settings of a connection: one frozen value, changed by SET and RESET."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.config import Address, Secret
from quackllm.engine.providers.vllm_options import options_text
from quackllm.engine.traffic.endpoint import Limits
from quackllm.errors import SettingError
from quackllm.optimizer.rules import RULES

if TYPE_CHECKING:
    from quackllm.udfs.base import Call

PREFIX = "llm_"


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    found = words.get(str(value).strip().lower())
    if found is None:
        raise ValueError("must be true or false")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    return value.strip()


def _secret(value: Any) -> Secret:
    return value if isinstance(value, Secret) else Secret(_text(value))


def addresses(value: Any) -> Address:
    """Read the address of a server, or several. Raises `ValueError` with what would be right."""
    if isinstance(value, Address):
        return value
    several = isinstance(value, list | tuple)
    written = ", ".join(map(_text, value)) if several else _text(value)
    try:
        found = Address.parse_all(written)
    except ValueError as error:
        raise ValueError(f"must be an address: {error}") from None
    if not all(each.url.startswith(("http://", "https://")) for each in (found, *found.also)):
        raise ValueError("must begin with http:// or https://, such as 'http://localhost:8000/v1'")
    return found


def _header(value: Any) -> str:
    name = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):  # RFC 9110, token
        raise ValueError("must be the name of an HTTP header")
    return name


def _word(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if str(value).lower() not in words:
            raise ValueError("must be " + " or ".join(f"'{word}'" for word in words))
        return str(value).lower()

    return check


def _whole(low: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        number = None if isinstance(value, bool) else _number(value)
        if number is None or not number.is_integer() or number < low:
            raise ValueError(f"must be a whole number, {low} or more")
        return int(number)

    return check


def _seconds(value: Any) -> float:
    number = None if isinstance(value, bool) else _number(value)
    if number is None or not 0 < number < 1e9:
        raise ValueError("must be a number of seconds above 0")
    return number


def _dollars(value: Any) -> float:
    number = None if isinstance(value, bool) else _number(value)
    if number is None or not 0 <= number < 1e9:
        raise ValueError("must be a number of dollars, 0 or more")
    return number


def _ratio(value: Any) -> float:
    number = None if isinstance(value, bool) else _number(value)
    if number is None or not 0 < number <= 1:
        raise ValueError("must be a share above 0, at most 1")
    return number


def _seconds_or_none_at_all(value: Any) -> float:
    number = None if isinstance(value, bool) else _number(value)
    if number is None or not 0 <= number < 1e9:
        raise ValueError("must be a number of seconds, 0 or more")
    return number


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def price(value: Any) -> float:
    """Read dollars per million tokens. Raises `ValueError` with what would be right."""
    number = None if isinstance(value, bool) else _number(value)
    if number is None or not 0 <= number < 1e9:
        raise ValueError("must be a number of dollars per million tokens, 0 or more")
    return number


_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_LEAST_SIZE = 1e6


def _size(value: Any) -> str:
    found = _SIZE.fullmatch(str(value))
    if found is None or found[2].upper() not in _UNITS or in_bytes(str(value)) < _LEAST_SIZE:
        raise ValueError("must be a size of 1MB or more, such as '500MB' or '4GB'")
    return str(value).strip()


def in_bytes(size: str) -> int:
    """Return the number of bytes of a size such as '4GB' or '500 MiB'."""
    found = _SIZE.fullmatch(size)
    assert found is not None
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _rules(value: Any) -> str:
    names = [name.strip() for name in str(value).split(",") if name.strip()]
    known = [rule.__name__ for rule in RULES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"names no rule {unknown[0]}; the rules are {', '.join(known)}")
    return ", ".join(names)


def _setting(default: Any, check: Callable[[Any], Any], doc: str) -> Any:
    return field(default=default, metadata={"check": check, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """Values of all settings; the SQL name of each has `llm_` in front."""

    model: str | None = _setting(
        None,
        _text,
        "model that answers: a name that the server knows, or the path of a .gguf file or of a "
        "directory that vLLM loads",
    )
    embedding_model: str | None = _setting(
        None,
        _text,
        "model that makes embeddings: a name that CREATE MODEL gave or the server knows, or the "
        "path of a .gguf file",
    )
    base_url: Address | None = field(
        default=None,
        metadata={
            "check": addresses,
            "doc": "address of an OpenAI-compatible server, such as 'http://localhost:8000/v1'; "
            "several that serve the same model, separated by commas or as a list",
        },
    )
    api_key: Secret | None = field(
        default=None,
        metadata={"check": _secret, "doc": "key for that server; never shown, logged or stored"},
    )
    provider: str | None = _setting(
        None,
        _text,
        "name of an installed provider, when it does not follow from the other settings",
    )
    tokenizer: str | None = _setting(
        None,
        _text,
        "path of the tokenizer.json of llm_model, or of a directory that has it, for servers that "
        "do not tell how many tokens a prompt has",
    )
    vllm_options: str | None = _setting(
        None,
        options_text,
        "what vLLM in this process is started with, a JSON object of its options, such as "
        "'{\"max_model_len\": 8192}'",
    )
    max_loaded_models: int = _setting(
        1,
        _whole(1),
        "models that answer, and as many that make embeddings, which stay in this process's "
        "memory; when another is loaded, those go that no running statement uses",
    )
    on_error: str = _setting(
        "null",
        _word("null", "error"),
        "'null': a failed call is NULL and a row of llm_errors(); "
        "'error': the first failure stops the statement",
    )
    max_error_ratio: float = _setting(
        0.9,
        _ratio,
        "share of failed calls, of the last 1,000 and at least 100 of a stage, beyond which the "
        "statement stops; 1 goes on whatever happens",
    )
    on_budget: str = _setting(
        "error",
        _word("error", "partial"),
        "when a budget is reached: 'error' stops the statement; 'partial' gives what is decided, "
        "the rest NULL and in llm_errors()",
    )
    max_calls: int | None = _setting(None, _whole(0), "model calls that one statement may make")
    max_tokens: int | None = _setting(
        None, _whole(0), "tokens, of prompts and answers, that one statement may take"
    )
    max_cost: float | None = _setting(
        None, _dollars, "dollars that one statement may cost; needs the prices of its models"
    )
    timeout: float | None = _setting(
        None, _seconds, "seconds that one statement may take until its last call has ended"
    )
    connection_max_calls: int | None = _setting(
        None, _whole(0), "model calls of all statements since connect, those of cursors included"
    )
    connection_max_tokens: int | None = _setting(
        None, _whole(0), "tokens of all statements since connect"
    )
    connection_max_cost: float | None = _setting(
        None, _dollars, "dollars of all statements since connect"
    )
    connection_max_seconds: float | None = _setting(
        None, _seconds, "seconds of all statements with model calls since connect"
    )
    allowed_models: str | None = _setting(
        None,
        _text,
        "names of the models that may answer, separated by commas; any when not set. Views and "
        "macros are held to it too",
    )
    offline: bool = _setting(
        False, _boolean, "refuse every model server that is not on this machine"
    )
    concurrency: int | None = _setting(
        None,
        _whole(1),
        "calls in flight at once at one endpoint; the provider's own choice when not set",
    )
    session_header: str | None = _setting(
        None,
        _header,
        "name of a request header for a router of several servers, such as 'x-session-id'; its "
        "value is the same for rows that share a prefix",
    )
    cache_marks: bool = _setting(
        False,
        _boolean,
        "mark in each prompt where its shared prefix ends (cache_control), for gateways to "
        "models that cache only what is marked",
    )
    call_timeout: float = _setting(
        120.0, _seconds, "seconds that one try of a call may take; one more try follows"
    )
    max_retries: int = _setting(
        4,
        _whole(0),
        "further tries of a call after a rate limit, a server error, a lost connection or an "
        "answer that does not fit (the last and a timeout: one)",
    )
    reconnect_timeout: float = _setting(
        30.0,
        _seconds_or_none_at_all,
        "seconds that a server which was there may be away before the statement is stopped",
    )
    hedge: bool = _setting(
        False,
        _boolean,
        "send a call that takes longer than 95 of 100 did a second time, where a place is free",
    )
    requests_per_minute: int | None = _setting(
        None, _whole(1), "requests per minute to one endpoint, those of all cursors together"
    )
    tokens_per_minute: int | None = _setting(
        None,
        _whole(1),
        "tokens per minute, of prompts and answers, at one endpoint, those of all cursors together",
    )
    cache: bool = _setting(True, _boolean, "use answers that are already there, and keep new ones")
    cache_path: str | None = _setting(
        None,
        _text,
        "database file that keeps the answers, or ':memory:'; one in the user's cache "
        "directory when not set",
    )
    cache_limit: str = _setting(
        "4GB", _size, "size of that file above which the answers unused for longest are dropped"
    )
    reorder: bool = _setting(
        True, _boolean, "order rows and fields so that the server reuses its prefix cache"
    )
    calibrate: bool | None = _setting(
        None,
        _boolean,
        "choose labels by their log-probability, the bias of the prompt taken off; when not set, "
        "the embedded model and models on vLLM whose name says fewer than a billion parameters do",
    )
    row_first: bool | None = _setting(
        None,
        _boolean,
        "where several functions ask about the same fields, show the row before the question when "
        "that saves tokens; when not set, models on vLLM and hosted APIs whose name does not say "
        "fewer than a billion parameters do",
    )
    approximate: str = _setting(
        "off",
        _word("off", "auto"),
        "'auto': a join on LLM_FILTER may ask only pairs of near texts, and miss some rows; 'off': "
        "no row is ever missed",
    )
    target_recall: float = _setting(
        0.95, _ratio, "share of a join's rows that an approximate join is to find"
    )
    recall_sample: int | None = _setting(
        None,
        _whole(0),
        "pairs asked to estimate what an approximate join has found; when not set, a quarter of "
        "the pairs asked otherwise, and at least 200, or of a small join a twentieth of its pairs",
    )
    pairs_per_prompt: int = _setting(
        10,
        _whole(1),
        "pairs that a join with strategy := 'batch_prompt' shows in one prompt, fewer where they "
        "do not fit into the model's window",
    )
    progress: bool = _setting(
        True, _boolean, "show a progress bar for long model stages, on terminals and in notebooks"
    )
    disabled_rules: str = _setting(
        "", _rules, "names of optimizer rules that are left out, separated by commas"
    )

    batch: bool = _setting(
        False,
        _boolean,
        "send calls by the provider's batch API: answers within a day, at its lower price",
    )
    batch_price: float | None = _setting(
        None,
        price,
        "part of the prices that a call by llm_batch costs, such as 0.5; all of them when not set",
    )
    input_price: float | None = _setting(
        None, price, "dollars per million prompt tokens of llm_model; 0 if they cost nothing"
    )
    cached_input_price: float | None = _setting(
        None,
        price,
        "dollars per million prompt tokens that come from the server's prefix cache; "
        "as llm_input_price when not set",
    )
    output_price: float | None = _setting(
        None, price, "dollars per million tokens of llm_model's answers"
    )

    @property
    def limits(self) -> Limits:
        """What holds for calls on their way to an endpoint."""
        return Limits(
            max_retries=self.max_retries,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            reconnect_timeout=self.reconnect_timeout,
            hedge=self.hedge,
        )

    def sends_by_batch(self, call: Call) -> bool:
        """Whether the provider's batch API is to answer a call: embeddings go the ordinary way."""
        return self.batch and not call.embeds

    def set(self, name: str, value: Any) -> Settings:
        """Return the settings with one changed. Raises `SettingError`."""
        known = self._field(name)
        try:
            checked = known.metadata["check"](value)
        except ValueError as error:
            raise SettingError(
                f"Invalid Input Error: setting {PREFIX}{known.name} {error}"
            ) from None
        return replace(self, **{known.name: checked})

    def reset(self, name: str) -> Settings:
        """Return the settings with one at its default. Raises `SettingError`."""
        known = self._field(name)
        return replace(self, **{known.name: known.default})

    def shown(self, name: str) -> str:
        """Return the value of one setting as text; a key only as '***', unset as ''."""
        value = getattr(self, self._field(name).name)
        if value is None:
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, value, description) of every setting."""
        return [(PREFIX + f.name, self.shown(f.name), f.metadata["doc"]) for f in fields(self)]

    def _field(self, name: str) -> Any:
        by_name = {f.name: f for f in fields(self)}
        short = name.lower().removeprefix(PREFIX)
        if short not in by_name:
            close = get_close_matches(short, by_name, n=1)
            hint = f'\nDid you mean: "{PREFIX}{close[0]}"' if close else ""
            raise SettingError(
                f'Catalog Error: unrecognized setting "{PREFIX}{short}"{hint}\n'
                "FROM llm_settings() lists all of them."
            )
        return by_name[short]


def settings_from(given: dict[str, Any]) -> Settings:
    """Make settings of keyword arguments, with or without the `llm_` in front."""
    settings = Settings()
    for name, value in given.items():
        if value is not None:
            settings = settings.set(name, value)
    return settings
