"""Retention as a part of the station: sweeps that end when the station does."""

from __future__ import annotations

from dataclasses import asdict, replace

from blemish.station.parts import Every, PartHealth
from blemish.station.settings import Retention
from blemish.station.store import Database, PictureStore
from blemish.station.store.retention import Sweeper


class Keeping(Every):
    """Sweeps every `rules.every_s`; its health counts what it took away."""

    def __init__(self, database: Database, pictures: PictureStore, rules: Retention) -> None:
        self.sweeper = Sweeper(database, pictures, rules)
        super().__init__("retention", rules.every_s, self.sweeper.sweep)

    def stop(self) -> None:
        """End after the batch that is being looked at."""
        self.sweeper.halt()
        super().stop()

    def health(self) -> list[PartHealth]:
        """Whether the last sweep went well, and what all took away."""
        return [
            replace(entry, counts=entry.counts | asdict(self.sweeper.total))
            for entry in super().health()
        ]
