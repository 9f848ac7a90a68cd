"""`blemish demo`: everything on synthetic parts (or one's own), ending in a page to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli import _options as options
from blemish.cli._output import say
from blemish.cli._progress import progress_bar
from blemish.errors import ImageError, ParameterError

if TYPE_CHECKING:
    from blemish.demo.page import Row
    from blemish.evaluation.datasets import Sample
    from blemish.imaging import Progress
    from blemish.inspector import Inspector

GOOD_PARTS = 40
RATE = 0.05


def demo(
    good: Annotated[
        Path | None, typer.Option("--good", metavar="DIR", help="Your own good images.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", metavar="DIR", help="Your own images to inspect.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the parts, bundle and page go.")
    ] = Path("demo"),
    backbone: options.Backbone = "efficientnet_lite0",
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Run the main job on synthetic circuit boards (or your folders); leave a page to look at."""
    from blemish.demo.page import DemoPage, Facts, write_page
    from blemish.demo.parts import write_dataset
    from blemish.evaluation.datasets import load
    from blemish.evaluation.metrics import auroc
    from blemish.imaging import expand
    from blemish.verdict import smallest_rate

    if (good is None) != (test is None):
        raise ParameterError(
            "--good and --test go together: good images to learn, others to inspect"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            f"--out {out}: no folder can be made here ({error.strerror})"
        ) from error
    if good is None or test is None:
        root = write_dataset(out / "parts", good=GOOD_PARTS, seed=seed)
        category = load("mvtec", root)[0]
        samples: list[tuple[Path, Sample | None]] = [(s.image, s) for s in category.test]
        train, title = list(category.train), "Synthetic circuit boards"
    else:
        train = list(expand(good))
        samples = [(path, None) for path in expand(test, recursive=True)]
        title = good.absolute().name
    inspector = options.InspectorOptions(
        method="hetmm",
        backbone=backbone,
        sheets=None,
        size=256,
        device="auto",
        seed=seed,
        settings=None,
        bit_depth=None,
    ).build()
    started = time.perf_counter()
    rate = max(RATE, smallest_rate(len(train)))
    with progress_bar(quiet=quiet) as progress:
        inspector.fit(train, progress=progress)
        inspector.calibrate(false_alarm_rate=rate, progress=progress)
        fit_seconds = time.perf_counter() - started
        inspector.save(out / "part.blemish")
        rows, milliseconds = _rows(inspector, samples, progress)
    assert inspector.calibration is not None
    truth = [bool(row.is_defective) for row in rows]
    known = all(row.is_defective is not None for row in rows)
    facts = Facts(
        method="HETMM",
        backbone=inspector.detector.backbone_record.name,
        n_fitted=len(train),
        fit_seconds=fit_seconds,
        threshold=inspector.calibration.threshold,
        false_alarm_rate=rate,
        image_auroc=auroc(truth, [row.score for row in rows]) if known else None,
        ms_per_part=sorted(milliseconds)[len(milliseconds) // 2],
    )
    page = write_page(out / "index.html", DemoPage(title=title, facts=facts, rows=rows))
    failed = [row.verdict != "pass" for row in rows]
    if known:
        found = sum(f for f, bad in zip(failed, truth, strict=True) if bad)
        alarms = sum(f for f, bad in zip(failed, truth, strict=True) if not bad)
        typer.echo(
            f"Found {found} of {sum(truth)} flawed parts, with {alarms} false alarms on "
            f"{truth.count(False)} good ones (image AUROC {100 * (facts.image_auroc or 0):.1f})."
        )
    else:
        typer.echo(f"{sum(failed)} of {len(rows)} parts were not passed.")
    typer.echo(f"Look at {page.resolve()}")


def _rows(
    inspector: Inspector, samples: list[tuple[Path, Sample | None]], progress: Progress
) -> tuple[list[Row], list[float]]:
    from blemish.demo.page import Row
    from blemish.evaluation.datasets import load_mask
    from blemish.imaging import encode_jpeg, encode_png, overlay

    assert inspector.calibration is not None
    rows: list[Row] = []
    milliseconds: list[float] = []
    progress("inspecting", 0, len(samples))
    for done, (path, sample) in enumerate(samples, start=1):
        try:
            result = inspector.inspect(path)
            image = inspector.read(path)
        except ImageError as error:
            say(f"left out: {error}")
            continue
        mask = None if sample is None else load_mask(sample)
        heat = overlay(
            image,
            result.anomaly_map,
            threshold=inspector.calibration.region_level(result.score),
            regions=result.regions,
        )
        plain = (image * 255 + 0.5).astype("uint8")
        rows.append(
            Row(
                name=path.name if sample is None else f"{sample.defect}/{path.name}",
                image_jpeg=encode_jpeg(plain, quality=85),
                overlay_jpeg=encode_jpeg(heat, quality=85),
                score=result.score,
                verdict=result.verdict,
                p_value=result.p_value,
                mask_png=None
                if mask is None
                else encode_png(mask.astype("uint8")[..., None].repeat(3, axis=2) * 255),
                kind=None if sample is None else sample.defect,
                is_defective=None if sample is None else bool(sample.label),
            )
        )
        milliseconds.append(result.latency_ms)
        progress("inspecting", done, len(samples))
    if not rows:
        raise ImageError("None of the images to inspect could be read.")
    return rows, milliseconds
