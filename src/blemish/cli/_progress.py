"""Progress bars with rate and time left, on a terminal's stderr; silent when piped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from blemish.imaging import Progress, silent


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress]:
    """A callback (stage, done, total) that draws one bar a stage."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "", style="dim")

    bars = Bars(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        # What follows a comma changes as the work goes on ("training, loss 0.1"): one bar for all.
        name = stage.partition(",")[0]
        if name not in tasks:
            tasks[name] = bars.add_task(stage, total=total)
        # A stage that starts again (the next category) starts its bar again.
        if done == 0:
            bars.reset(tasks[name], total=total)  # type: ignore[arg-type]
        bars.update(tasks[name], completed=done, total=total, description=stage)  # type: ignore[arg-type]

    with bars:
        yield report
