"""`blemish pack` and `blemish unpack`: a bundle as one file for transport, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._output import say

if TYPE_CHECKING:
    from blemish.bundle import Packed


def pack(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")
    ],
    quiet: options.Quiet = False,
) -> None:
    """Make one file of a bundle with all its versions, for transport; every file is checked."""
    from blemish.bundle import pack_bundle

    say(_told(f"{output} holds {bundle}", pack_bundle(bundle, output)), quiet=quiet)


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `blemish pack` wrote.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PART.blemish", help="The bundle to make.")
    ],
    quiet: options.Quiet = False,
) -> None:
    """Make a bundle of a packed one, or bring an older version of it up to date."""
    from blemish.bundle import unpack_bundle

    say(_told(f"{file} is unpacked to {output}", unpack_bundle(file, output)), quiet=quiet)


def _told(what: str, packed: Packed) -> str:
    versions = f"{packed.versions} version{'' if packed.versions == 1 else 's'}"
    return (
        f"{what}: {versions}, the current one is {packed.manifest.version}; "
        f"{packed.bytes / 1e6:.1f} MB."
    )
