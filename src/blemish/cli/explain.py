"""`blemish explain`: pictures of what a detector sees in an image, and why it scores as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._output import say


def explain(
    bundle: Annotated[Path, typer.Argument(metavar="PART.blemish")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The folder for the pictures.")
    ],
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Write pictures of what the method sees in one image: one PNG each, and all in one sheet."""
    from blemish.detector import to_batch
    from blemish.errors import ParameterError
    from blemish.imaging import atomic_write, encode_png
    from blemish.inspector import Inspector, resolve_device
    from blemish.tfanet.explain import contact_sheet

    if output.exists() and not output.is_dir():
        raise ParameterError(f"--output {output}: this is a file; give a folder")
    inspector = Inspector.load(bundle, device=device)
    pixels = inspector.read(image)
    batch = to_batch([inspector.view.apply(pixels)], resolve_device(device))
    pictures = inspector.detector.explain(batch)
    pictures = {**pictures, "sheet": contact_sheet(pictures)}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            atomic_write(output / f"{image.stem}.{name.replace(' ', '_')}.png", encode_png(picture))
    except OSError as error:
        raise ParameterError(
            f"--output {output}: the pictures cannot be written ({error.strerror or error})"
        ) from error
    say(f"Wrote {', '.join(pictures)} of {image.name} to {output}", quiet=quiet)
