"""What can go wrong in a station, apart from what can in an inspection."""

from __future__ import annotations

from blemish.errors import BlemishError


class StationError(BlemishError):
    """The station cannot do what it was asked to."""

    code = "station"


class UnknownError(StationError):
    """There is no inspector, inspection or candidate of this name."""

    code = "unknown"


class ConflictError(StationError):
    """It was done already, or something else is being done to the same thing."""

    code = "conflict"


class ReusedKeyError(StationError):
    """An idempotency key came again with another request."""

    code = "reused_key"


class NotAllowedError(StationError):
    """This person may not do that."""

    code = "not_allowed"


class RefusedError(StationError):
    """A new version would be worse on the regression set; it did not go live."""

    code = "refused"


class BusyError(StationError):
    """More parts come than can be inspected; `retry_after` s is when to come again."""

    code = "busy"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LateError(BusyError):
    """It takes longer than its sender should wait; it goes on, and can be asked for again."""

    code = "late"


class StoreError(StationError):
    """The database cannot be used."""

    code = "store"


class StoreUnreachableError(StoreError):
    """The database does not answer now; what was not acknowledged must come again."""

    code = "store_unreachable"
