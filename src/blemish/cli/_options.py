"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
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
    typer.Option("--sheets", min=0, help="Sheets of templates kept; 0 keeps all. [default: 32]"),
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
        metavar="manual|global|both|W,W,…",
        help="Where a part's places are looked for in the good parts: in windows around them, "
        "anywhere, or both; or the windows a level, in its pixels. [default: both]",
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


@dataclass(frozen=True, kw_only=True)
class InspectorOptions:
    """What describes an unfitted inspector, as the verbs that fit one take it."""

    method: str = "hetmm"
    backbone: str | None = None
    sheets: int | None = None
    memory: int | None = None
    windows: str | None = None
    size: int = 256
    device: str = "auto"
    devices: int | None = None
    nodes: int | None = None
    seed: int = 0
    settings: list[str] | None = None
    bit_depth: int | None = None
    max_pixels: int = MAX_PIXELS
    keep_pictures: bool = True
    align: str = "none"
    aspect: str = "stretch"
    roi: Path | None = None
    ignore: Path | None = None
    golden: Path | None = None
    tile: int | None = None

    def build(self) -> Inspector:
        """Make the inspector; raises ParameterError for what its method does not have."""
        from blemish.inspector import Inspector

        return Inspector(
            self.detector(),
            size=self.size,
            device=self.device,
            seed=self.seed,
            bit_depth=self.bit_depth,
            max_pixels=self.max_pixels,
            keep_pictures=self.keep_pictures,
            align=cast("Any", self.align),  # the view says what there is
            aspect=cast("Any", self.aspect),
            roi=self.roi,
            ignore=self.ignore,
            tile=self.tile,
            golden=self.golden,
        )

    def detector(self) -> Detector:
        """Make the detector of these options."""
        from blemish.detectors import METHODS, detector_class, parse_settings
        from blemish.errors import ParameterError

        if self.method not in METHODS:
            raise ParameterError(f"--method {self.method}: it must be one of {', '.join(METHODS)}")
        kind = detector_class(self.method)
        values = parse_settings(kind, self.settings or [])
        if self.backbone is not None:
            values["backbone"] = self.backbone
        known = kind.setting_names()
        for name, value in (("sheets", self.sheets), ("memory", self.memory)):
            if value is not None:
                if name not in known:
                    raise ParameterError(
                        f"--{name}: {self.method} keeps no sheets; leave the option out"
                    )
                values[name] = value or None  # 0 sheets are all
        for name, count in (("devices", self.devices), ("nodes", self.nodes)):
            if count is not None:
                if name not in inspect.signature(kind).parameters:
                    raise ParameterError(
                        f"--{name}: {self.method} learns in one process; leave the option out"
                    )
                values[name] = count
        if self.windows is not None:
            if "windows" not in known:
                raise ParameterError(
                    f"--windows: {self.method} has no windows; leave the option out"
                )
            values = {**_windows(kind, self.windows), **values}
        return kind(**values)


@dataclass(frozen=True, kw_only=True)
class FitOptions(InspectorOptions):
    """What `fit` is asked for: an inspector, and what its thresholds promise."""

    false_alarm_rate: float | None = None
    confidence: float | None = None
    review_rate: float | None = None
    defects: int = 180


def _windows(detector: type[Detector], text: str) -> dict[str, Any]:
    """What `--windows` says, as the detector's arguments."""
    from blemish.detectors import parse_settings

    if text[:1].isdigit():
        return {**parse_settings(detector, [f"forward={text},"]), "windows": "manual"}
    return parse_settings(detector, [f"windows={text}"])
