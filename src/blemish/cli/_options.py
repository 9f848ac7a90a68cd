"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from blemish.imaging import MAX_PIXELS

if TYPE_CHECKING:
    from blemish.detectors import Detector
    from blemish.inspector import Inspector

Method = Annotated[str, typer.Option("--method", help="hetmm (no training) or tfanet (trained).")]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="efficientnet_lite0 (the default), filterbank (no weights), a timm name in the weight "
        "store, NETWORK@FILE.safetensors or FILE.onnx.",
    ),
]
Sheets = Annotated[
    int | None,
    typer.Option("--sheets", min=0, help="Sheets of templates kept; 0 keeps all. [default: 48]"),
]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="MB",
        min=1,
        help="MiB the templates may take; more of them are read from a scratch file.",
    ),
]
LoadMemory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="MB",
        min=1,
        help="MiB the templates may take once loaded (hetmm). [default: what fit was told]",
    ),
]
Windows = Annotated[
    str | None,
    typer.Option(
        "--windows",
        metavar="auto|W,W,…",
        help="Forward search windows a level, in its pixels (map: anywhere), or auto: chosen from "
        "the good images.",
    ),
]
Size = Annotated[int, typer.Option("--size", help="Side of the square view, in pixels.")]
Align = Annotated[
    str,
    typer.Option(
        "--align",
        metavar="MODE|auto",
        help="How parts may lie: none (all alike), translation, rigid (any angle), similarity, "
        "homography; auto chooses from the good images.",
    ),
]
Aspect = Annotated[
    str, typer.Option("--aspect", help="stretch to the square, or pad and keep the aspect ratio.")
]
Roi = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="FILE",
        help="Only this area of the golden image counts: polygons in JSON, or a mask image.",
    ),
]
Ignore = Annotated[
    Path | None, typer.Option("--ignore", metavar="FILE", help="An area that does not count.")
]
Golden = Annotated[
    Path | None,
    typer.Option(
        "--golden",
        metavar="IMAGE",
        help="The picture that parts are laid onto and areas are drawn on. [default: one of the "
        "good images]",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="PIXELS",
        min=8,
        help="Cut large images into tiles of this side, each seen at --size.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Engine = Annotated[
    str, typer.Option("--engine", help="local (this machine) or ray (RAY_ADDRESS, or a Ray here).")
]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        "--num-workers", metavar="N", min=1, help="Workers at once. [default: one a core]"
    ),
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        min=1,
        help="Devices on this machine that train together (tfanet). [default: 1, or torchrun's]",
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        min=1,
        help="Machines that train together, each with --devices. [default: 1, or torchrun's]",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other option of the method; repeatable."),
]
BitDepth = Annotated[
    int | None,
    typer.Option("--bit-depth", help="Bits that 16-bit images really have, e.g. 12. [default: 16]"),
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", help="Larger images are refused before they are decoded.")
]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who. [default: the login name]")
]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]


def login_name() -> str:
    """Who is logged in, for a version's record; nothing where the system does not know."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def build_inspector(
    *,
    method: str,
    backbone: str | None,
    sheets: int | None,
    size: int,
    device: str,
    seed: int,
    settings: list[str] | None,
    bit_depth: int | None,
    max_pixels: int = MAX_PIXELS,
    memory: int | None = None,
    windows: str | None = None,
    keep_pictures: bool = True,
    align: str = "none",
    aspect: str = "stretch",
    roi: Path | None = None,
    ignore: Path | None = None,
    tile: int | None = None,
    golden: Path | None = None,
    devices: int | None = None,
    nodes: int | None = None,
) -> Inspector:
    """The unfitted inspector that these options describe."""
    from blemish.detectors import METHODS, detector_class, parse_settings
    from blemish.errors import ParameterError
    from blemish.inspector import Inspector

    if method not in METHODS:
        raise ParameterError(f"--method {method}: it must be one of {', '.join(METHODS)}")
    detector = detector_class(method)
    values = parse_settings(detector, settings or [])
    if backbone is not None:
        values["backbone"] = backbone
    if sheets is not None:
        if "sheets" not in detector.setting_names():
            raise ParameterError(f"--sheets: {method} keeps no sheets; leave the option out")
        values["sheets"] = sheets or None
    if memory is not None:
        if "memory" not in detector.setting_names():
            raise ParameterError(f"--memory: {method} keeps no sheets; leave the option out")
        values["memory"] = memory
    for name, count in (("devices", devices), ("nodes", nodes)):
        if count is not None:
            if name not in inspect.signature(detector).parameters:
                raise ParameterError(
                    f"--{name}: {method} learns in one process; leave the option out"
                )
            values[name] = count
    if windows is not None:
        if "windows" not in detector.setting_names():
            raise ParameterError(f"--windows: {method} has no windows; leave the option out")
        values = {**_windows(detector, windows), **values}
    return Inspector(
        detector(**values),
        size=size,
        device=device,
        seed=seed,
        bit_depth=bit_depth,
        max_pixels=max_pixels,
        keep_pictures=keep_pictures,
        align=cast("Any", align),  # the view says what there is
        aspect=cast("Any", aspect),
        roi=roi,
        ignore=ignore,
        tile=tile,
        golden=golden,
    )


def _windows(detector: type[Detector], text: str) -> dict[str, Any]:
    """What `--windows` says, as the detector's arguments."""
    from blemish.detectors import parse_settings

    if text == "auto":
        return {"windows": "auto"}
    return parse_settings(detector, [f"forward={text},"])
