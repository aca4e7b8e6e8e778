"""Every error bagbot raises, split by what the caller must do.

```
BagbotError
├── ConfigError                   fix the settings; we do not start
├── DataError                     bars unusable: gap, order, checksum
├── JournalError                  cannot record, therefore cannot trade
├── IllegalTransitionError        a bug, here or there: halt that order, shout
├── NotSupportedError             this connector cannot do that; `capabilities` says so beforehand
├── InvalidOrderError             the order makes no sense as written; nothing was sent
│   └── UnknownSymbolError        the exchange does not trade this symbol; an ExchangeError, too
├── StrategyError                 a strategy cannot run as written: fix it where the message says
└── ExchangeError
    ├── OrderRejectedError        the exchange said no; final
    ├── OrderNotFoundError        the exchange does not know (yet) what was asked for
    ├── AuthenticationError       stop trading: the key is missing, wrong or may not do this
    ├── RateLimitedError          not accepted: wait retry_after_s, then a new attempt
    ├── ExchangeUnavailableError  certainly not accepted: a new attempt (new id) may go out
    └── OutcomeUnknownError       perhaps accepted: reconcile, never resend blindly
```

A refusal by the risk manager is a value (`Refused`), not an exception.
"""


class BagbotError(Exception):
    """The root of everything bagbot raises on purpose."""


class ConfigError(BagbotError):
    """The settings are wrong: we do not start until they are fixed."""


class DataError(BagbotError):
    """Market data cannot be used: unreadable, out of order, or impossible."""


class JournalError(BagbotError):
    """The journal cannot record, therefore we cannot trade."""


class IllegalTransitionError(BagbotError):
    """Two facts about one order contradict each other."""


class NotSupportedError(BagbotError):
    """This connector cannot do what was asked."""


class InvalidOrderError(BagbotError):
    """The order makes no sense as written; nothing was sent."""


class StrategyError(BagbotError):
    """A strategy cannot run as it is written; the message says what, and where."""


class ExchangeError(BagbotError):
    """The exchange, or the way to it, answered with an error.

    `code` is the exchange's own code and `http_status` the status of the answer, where known.
    """

    def __init__(
        self, message: str, *, code: int | str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status


class UnknownSymbolError(InvalidOrderError, ExchangeError):
    """The exchange does not trade this symbol (any more): no order goes there, no answer comes."""


class OrderRejectedError(ExchangeError):
    """The exchange said no to this order; that is final."""


class OrderNotFoundError(ExchangeError):
    """The exchange does not know the order, or not yet, or no longer."""


class AuthenticationError(ExchangeError):
    """The key is missing, wrong, or may not do this: stop trading."""


class RateLimitedError(ExchangeError):
    """Not accepted, too many requests: wait `retry_after_s` seconds before any other."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        code: int | str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.retry_after_s = retry_after_s


class ExchangeUnavailableError(ExchangeError):
    """Certainly not accepted: nothing reached the matching engine."""


class OutcomeUnknownError(ExchangeError):
    """Perhaps accepted: look the order up, never send it again blindly."""
