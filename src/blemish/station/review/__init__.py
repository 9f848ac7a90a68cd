"""Review: what people say of parts, and how inspectors change by it."""

from blemish.station.review.reviewing import Reviewing

__all__ = ["Reviewing"]
