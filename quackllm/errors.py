"""The exceptions of quackllm.

Every one is also a `duckdb.Error`, so code written for DuckDB catches it, and
those that have a counterpart in DuckDB are of that class too::

    duckdb.Error
    └── QuackLLMError
        ├── BindError             also duckdb.BinderException: the statement is wrong
        ├── SettingError          also duckdb.InvalidInputException: a setting is wrong
        ├── ProviderError         every call would fail; the statement stops at once
        │   ├── ServerUnreachable     nothing answers at the address
        │   ├── AuthenticationFailed  the server refuses the key
        │   ├── ModelNotFound         the server or the disk has no such model
        │   ├── ModelReplaced         another model answers under the name now
        │   ├── RequestRefused        the server refuses every request of this kind
        │   ├── RateLimited           the server wants a pause of many minutes
        │   ├── NotOnThisMachine      llm_offline is on, and the server is elsewhere
        │   └── ModelNotAllowed       llm_allowed_models does not name the model
        ├── CallError             one call failed; NULL and a row in llm_errors()
        │   ├── InvalidAnswer         the model's answer does not fit the type asked for
        │   ├── ContextWindowExceeded the prompt is longer than the model's window
        │   ├── CallTimedOut          no answer within llm_call_timeout seconds
        │   └── ServerFailed          the server failed on this request, retries included
        ├── BudgetExceeded        a budget is reached; what was answered is kept
        ├── TooManyFailures       more calls failed than llm_max_error_ratio allows
        └── StatementCancelled    also duckdb.InterruptException
"""

from __future__ import annotations

from enum import Enum

import duckdb


class Trouble(Enum):
    """What the failure of a call says about the server. All of them may pass."""

    OVERLOADED = "overloaded"
    """It refuses calls for now: 429, 503."""
    FAILED = "failed"
    """It responded, but not with an answer: another 5xx, 408, 409, a broken reply."""
    CUT_OFF = "cut off"
    """The connection broke off while the call was on its way."""
    SILENT = "silent"
    """No answer in time."""
    UNREACHABLE = "unreachable"
    """No connection could be made."""


class QuackLLMError(duckdb.Error):
    """Base of every error that quackllm raises."""


class BindError(QuackLLMError, duckdb.BinderException):
    """A statement that cannot be right: unknown option, argument of a wrong shape.

    call: the function that it is about as the statement names it, '' where it is about none.
    """

    def __init__(self, message: str = "", *, call: str = "") -> None:
        super().__init__(message)
        self.call = call


class SettingError(QuackLLMError, duckdb.InvalidInputException):
    """An unknown `llm_` setting or a value that it cannot take."""


class ProviderError(QuackLLMError):
    """A fault that every call of the statement would meet; nothing more is sent."""


class ServerUnreachable(ProviderError):
    """No model server answers at the address."""


class AuthenticationFailed(ProviderError):
    """The model server refuses the API key, or asks for one."""


class ModelNotFound(ProviderError):
    """The server does not serve the model, or the model file does not exist."""


class ModelReplaced(ProviderError):
    """The server serves another model under the name than when it was first asked."""


class RequestRefused(ProviderError):
    """The server refuses requests of this form, whatever the row."""


class RateLimited(ProviderError):
    """The server wants a pause that is longer than anybody wants to wait for."""


class NotOnThisMachine(ProviderError):
    """`llm_offline` is on, and the model would answer from another machine."""


class ModelNotAllowed(ProviderError):
    """`llm_allowed_models` is set, and does not name the model that would answer."""


class CallError(QuackLLMError):
    """One call failed. `cause` is the short name that failures are grouped by.

    trouble: set where another try can help; retry_after: the seconds that the server wants
    to be left alone first. status: of the HTTP response that told so, None where there was
    none. attempts: how often the call was tried.
    """

    cause = "call failed"

    def __init__(
        self,
        message: str = "",
        *,
        trouble: Trouble | None = None,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.retry_after = retry_after
        self.status = status
        self.attempts = 1


class InvalidAnswer(CallError):
    """The model answered something that the declared type does not admit."""

    cause = "invalid answer"


class ContextWindowExceeded(CallError):
    """The prompt of this row is longer than the context window of the model."""

    cause = "context window exceeded"


class CallTimedOut(CallError):
    """The server did not answer this call in time."""

    cause = "timeout"


class ServerFailed(CallError):
    """The server failed on this request (5xx, rate limit, broken reply), after retries."""

    cause = "server error"


class BudgetExceeded(QuackLLMError):
    """A budget (`llm_max_calls`, ...) is reached, or would be for certain; see the message.

    Nothing more is sent. What was answered is kept, so running the statement again with
    a larger budget goes on where it stopped.
    """


class TooManyFailures(QuackLLMError):
    """So many calls failed that a wrong prompt or a broken server is the likely cause."""


class StatementCancelled(QuackLLMError, duckdb.InterruptException):
    """The statement was interrupted; answers that had arrived are kept."""
