"""`blemish update`: templates come and go on a fitted bundle, every change a version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from blemish.cli import _options as options
from blemish.cli._calibration import calibration_json, calibration_text
from blemish.cli._output import check_output, say, write_json
from blemish.cli._progress import progress_bar
from blemish.errors import ParameterError

if TYPE_CHECKING:
    from blemish.bundle import HistoryEntry
    from blemish.inspector import Update

_MANY = ("--add", "--remove", "--good")


class ManyValues(TyperCommand):
    """A command whose `--add`, `--remove` and `--good` take all values up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write `--add A B` as `--add A --add B`, which is what the parser knows."""
        spread: list[str] = []
        option, values = "", 1
        for word in [*args, "-"]:
            if word.startswith("-"):
                if not values:
                    raise ParameterError(f"{option} stands alone; give what it is about after it")
                option, values = (word, 0) if word in _MANY else ("", 1)
                spread += [] if option else [word]
            else:
                spread += [option, word] if option else [word]
                values += 1
        return super().parse_args(ctx, spread[:-1])


def update(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    add: Annotated[
        list[Path] | None,
        typer.Option(
            "--add", metavar="IMG...", help="Learn these good images, or folders of them."
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove",
            metavar="ID...",
            help="Forget the templates with these ids; 4 or more characters of an id will do.",
        ),
    ] = None,
    rollback: Annotated[
        int | None,
        typer.Option(
            "--rollback", metavar="VERSION", help="Bring an older version back, as a new one."
        ),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="List the versions and the templates in use.")
    ] = False,
    by: options.By = None,
    note: options.Note = "",
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected from now on. [default: as before]"
        ),
    ] = None,
    good: Annotated[
        list[Path] | None,
        typer.Option(
            "--good",
            metavar="IMG...",
            help="Good images, or folders of them, to calibrate on instead of those kept.",
        ),
    ] = None,
    no_calibrate: Annotated[
        bool,
        typer.Option("--no-calibrate", help="Set no threshold: every verdict is review till then."),
    ] = False,
    memory: options.LoadMemory = None,
    device: options.Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE|-", help="What was done as JSON.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Add and remove templates, go back to an older version, or list the versions.

    Each change is a version; the threshold is set again on the good images that the bundle keeps.
    """
    changes = bool(add or remove)
    if changes + (rollback is not None) + history != 1:
        raise ParameterError("give --add and/or --remove, or --rollback, or --history")
    if no_calibrate and (good or false_alarm_rate is not None):
        raise ParameterError("--no-calibrate goes with neither --good nor --false-alarm-rate")
    check_output(json_file, "--json")
    who = options.login_name() if by is None else by
    if history:
        listed, lines = _history(bundle)
        write_json(json_file, listed)
        if json_file is None:
            typer.echo(lines)  # what was asked for, so no remark: stdout, also with --quiet
        return
    from blemish.inspector import Inspector

    with Inspector.changing(bundle, device=device, memory=memory) as inspector:
        if rollback is not None:
            inspector.rollback(rollback, by=who, note=note)
            done = {"bundle": str(bundle), **inspector.history[-1].to_dict()}
            text = f"{bundle} is now version {inspector.version}, which is version {rollback} again"
        else:
            before = inspector.version
            with progress_bar(quiet=quiet) as progress:
                report = inspector.update(
                    add or None,
                    remove or (),
                    by=who,
                    note=note,
                    false_alarm_rate=false_alarm_rate,
                    good=good or None,
                    recalibrate=not no_calibrate,
                    progress=progress,
                )
            done = _done(bundle, report)
            text = _text(bundle, report, len(inspector.templates), changed=report.version > before)
    _report(json_file, done, text, quiet=quiet)


def _report(json_file: Path | None, result: Any, text: str, *, quiet: bool) -> None:
    write_json(json_file, result)
    if str(json_file) != "-":
        say(text, quiet=quiet)


def _done(bundle: Path, report: Update) -> dict[str, Any]:
    calibration = report.calibration
    return {
        "bundle": str(bundle),
        "version": report.version,
        "added": [record.model_dump() for record in report.added],
        "removed": [record.model_dump() for record in report.removed],
        "skipped": list(report.skipped),
        "calibration": None if calibration is None else calibration_json(calibration),
        "notes": list(report.notes),
        "seconds": {name: round(value, 4) for name, value in report.seconds.items()},
    }


def _text(bundle: Path, report: Update, templates: int, *, changed: bool) -> str:
    lines = [f"  + {record.id}  {record.source}" for record in report.added]
    lines += [f"  - {record.id}  {record.source}" for record in report.removed]
    lines += [f"  = {source} is already a template" for source in report.skipped]
    if not changed:
        return "\n".join([f"{bundle} stays version {report.version}: nothing to do", *lines])
    lines.insert(0, f"{bundle} is now version {report.version} with {templates} templates")
    calibration = report.calibration
    if calibration is not None:
        lines.append(f"  threshold {calibration_text(calibration_json(calibration))}")
    return "\n".join([*lines, *(f"  {note}" for note in report.notes)])


def _history(bundle: Path) -> tuple[dict[str, Any], str]:
    """The versions and the templates in use, for programs and for people."""
    from blemish.bundle import read_history, read_manifest

    entries, manifest = read_history(bundle), read_manifest(bundle)
    lines = [_entry_text(entry) for entry in entries]
    lines.append(f"{len(manifest.templates)} templates in version {manifest.version}:")
    lines += [
        f"  {record.id}  since version {record.version}  {record.source}"
        for record in manifest.templates
    ]
    listed = {
        "bundle": str(bundle),
        "version": manifest.version,
        "history": [entry.to_dict() for entry in entries],
        "templates": [record.model_dump() for record in manifest.templates],
    }
    return listed, "\n".join(lines)


def _entry_text(entry: HistoryEntry) -> str:
    what = entry.kind if entry.restored is None else f"rollback to {entry.restored}"
    counts = "".join(
        f" {sign}{len(ids)}" for sign, ids in (("+", entry.added), ("-", entry.removed)) if ids
    )
    threshold = "none" if entry.threshold is None else f"{entry.threshold:.4g}"
    threshold += " by hand" if entry.promise == "none" else ""
    told = "  ".join(part for part in (entry.by, entry.note) if part)
    return (
        f"{entry.version:>4}  {entry.created}  {what + counts:<16} {entry.templates:>4} templates  "
        f"threshold {threshold:<8} {told}"
    ).rstrip()
