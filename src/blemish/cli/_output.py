"""Where results go: JSON to a file or stdout for machines, a table for people."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from blemish.errors import ParameterError
from blemish.imaging import atomic_write


def check_output(path: Path | None, option: str) -> None:
    """Raise before long work when `path` cannot be written after it."""
    if path is None or str(path) == "-":
        return
    if path.is_dir():
        raise ParameterError(f"{option} {path}: this is a folder; give a file's name")
    if not path.absolute().parent.is_dir():
        raise ParameterError(f"{option} {path}: the folder {path.parent} does not exist")


def write_text(path: Path | None, text: str) -> None:
    """Write whole text to a file, or to stdout for `-`; nothing for None."""
    if path is None:
        return
    if str(path) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        try:
            if path.exists() and not path.is_file():
                path.write_text(text)  # a pipe or a device such as /dev/stdout is written into
            else:
                atomic_write(path, text.encode())
        except OSError as error:
            raise ParameterError(f"{path} could not be written ({error.strerror})") from error


def write_json(path: Path | None, value: Any) -> None:
    """One JSON document to a file, or to stdout for `-`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def say(text: str, *, quiet: bool = False) -> None:
    """A remark for the person at the terminal: stderr, so that stdout stays for results."""
    if not quiet:
        typer.echo(text, err=True)
