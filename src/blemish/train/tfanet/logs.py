"""What a run leaves to read: a CSV always, TensorBoard's events where that package is installed."""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path
from typing import Any

NAME = "training.csv"
COLUMNS = ("step", "epoch", "lr", "loss", "euclidean", "cosine", "seconds")


class TrainingLog:
    """Writes one row a step into `folder` (None: nowhere); rows after step `start` are dropped.

    `seconds` counts from the start or resumption of the run.
    """

    def __init__(self, folder: Path | None, start: int = 0) -> None:
        self._file: Any = None
        self._board: Any = None
        self._began = time.monotonic()
        if folder is None:
            return
        path = folder / NAME
        kept = _rows_until(path, start)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file)
        self._csv.writerows([COLUMNS, *kept])
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder), purge_step=start + 1)

    def write(
        self, step: int, epoch: int, lr: float, loss: float, euclidean: float, cosine: float
    ) -> None:
        """Log one step, counted from 1."""
        if self._file is None:
            return
        seconds = round(time.monotonic() - self._began, 3)
        self._csv.writerow([step, epoch, f"{lr:.6g}", loss, euclidean, cosine, seconds])
        self._file.flush()
        if self._board is not None:
            values = {"loss": loss, "euclidean": euclidean, "cosine": cosine, "lr": lr}
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        for sink in (self._file, self._board):
            if sink is not None:
                sink.close()


def _rows_until(path: Path, step: int) -> list[list[str]]:
    """The rows of an earlier, interrupted run up to the step it is resumed from."""
    if step == 0 or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    # A kill can cut the last row.
    whole = [row for row in rows if len(row) == len(COLUMNS) and row[0].isdigit()]
    return [row for row in whole if int(row[0]) <= step]
