"""The store: inspections, decisions and what follows from them, and pictures on disk by hash."""

from blemish.station.store.filters import Filter
from blemish.station.store.inspections import Draft, Judged, Page, record
from blemish.station.store.opening import Database
from blemish.station.store.pictures import PictureStore
from blemish.station.store.types import moment_of, new_id, now

__all__ = [
    "Database",
    "Draft",
    "Filter",
    "Judged",
    "Page",
    "PictureStore",
    "moment_of",
    "new_id",
    "now",
    "record",
]
