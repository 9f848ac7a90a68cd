"""Our figures beside those of independent implementations, on the same maps, to six digits.

    python benchmarks/metrics_agreement.py [--shared DIR] [--json FILE]

The peers run in a virtual environment of their own (in a temporary folder; pip must reach PyPI):

- scikit-learn: AUROC, average precision, the best F1 along its precision-recall curve, and AUPRO
  as the area under its ROC curve where each region's pixels weigh 1 / area;
- MVTec's AUPRO, as PyPI's `adeval` carries it, with 100 000 thresholds (all take it hours);
- adeval's own streaming figures (1000 bins, so they approximate);
- for sPRO, for which PyPI has none, the definition evaluated at every distinct score.

MVTec's curve joins its thresholds by straight lines where ours steps, and it puts good pixels of
one score at different false-positive rates: that is what remains between the two columns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "metrics_agreement.json"
PEERS = ["numpy<2", "scipy", "scikit-learn", "opencv-python-headless"]
COARSE = "adeval, 1000 bins"
THRESHOLDS = 100_000  # of MVTec's curve

Columns = dict[str, dict[str, float]]


# Maps -----------------------------------------------------------------------------------


def synthetic(n_images: int, size: int, levels: int | None) -> dict[str, np.ndarray]:
    """Smooth noise with brighter blobs, a third of the images good; `levels` makes ties."""
    import cv2

    rng = np.random.default_rng(0)
    maps, masks = [], []
    for index in range(n_images):
        noise = cv2.GaussianBlur(rng.standard_normal((size, size)), (0, 0), 3)
        mask = np.zeros((size, size), np.uint8)
        for _ in range(0 if index % 3 == 0 else rng.integers(1, 4)):
            centre = tuple(int(c) for c in rng.integers(size // 6, size - size // 6, 2))
            cv2.circle(mask, centre, int(rng.integers(2, size // 10)), 1, -1)
        scores = noise / noise.std() + 1.5 * cv2.GaussianBlur(mask.astype(float), (0, 0), 2)
        if levels:
            scores = np.round(scores * levels / 8) / levels
        maps.append(scores.astype(np.float32))
        masks.append(mask.astype(bool))
    return {"maps": np.stack(maps), "masks": np.stack(masks)}


def bottle(shared: Path) -> dict[str, np.ndarray]:
    """HETMM's maps of MVTec AD's bottle at 256x256, with the backbone that needs no weights."""
    import cv2

    from blemish import HETMM, Inspector
    from blemish.evaluation.datasets import load, load_mask

    (category,) = load("mvtec", shared / "mvtec_256", ["bottle"], 0)
    inspector = Inspector(HETMM(sheets=8, backbone="filterbank"), size=256, device="cpu")
    inspector.fit(list(category.train)[::10])
    maps, masks = [], []
    for sample in category.test:
        found = np.asarray(inspector.inspect(sample.image).anomaly_map, np.float32)
        mask = load_mask(sample) if sample.masks else np.zeros((256, 256), bool)
        maps.append(cv2.resize(found, mask.shape[::-1], interpolation=cv2.INTER_LINEAR))
        masks.append(mask)
    return {"maps": np.stack(maps), "masks": np.stack(masks)}


def regions_of(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 8-connected regions [N, H, W], from 1, and a saturation area for each."""
    import cv2

    regions, last = np.zeros(masks.shape, np.int32), 0
    for index, mask in enumerate(masks):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions[index] = np.where(mask, labels + last, 0)
        last += count - 1
    areas = np.bincount(regions.ravel(), minlength=last + 1)[1:]
    shares = np.random.default_rng(1).uniform(0.1, 1.0, last)
    return regions, np.maximum(np.floor(areas * shares), 1)


# Both sides -----------------------------------------------------------------------------


def ours(maps: np.ndarray, masks: np.ndarray, regions: np.ndarray, areas: np.ndarray) -> Columns:
    """Our figures; an image's score is its map's largest value."""
    from types import SimpleNamespace

    from blemish.evaluation.metrics import PixelMetrics, auroc, average_precision, f1_max

    pixels = PixelMetrics()
    for scores, mask, labels in zip(maps, masks, regions, strict=True):
        defects = [
            SimpleNamespace(mask=labels == number, saturation_area=float(areas[number - 1]))
            for number in np.unique(labels[mask])
        ]
        pixels.add(scores, mask, defects=defects)
    truth, peaks = masks.any((1, 2)).astype(int), maps.max((1, 2))
    found, best = pixels.compute(), f1_max(truth, peaks)
    return {
        "blemish": {
            "image_auroc": auroc(truth, peaks),
            "image_ap": average_precision(truth, peaks),
            "image_f1max": best.value,
            "pixel_auroc": found.auroc,
            "pixel_ap": found.ap,
            "pixel_f1max": found.f1_max,
            "aupro": found.aupro,
            "aupro_005": found.aupro_005,
            "spro": found.spro,
        }
    }


def peers(maps: np.ndarray, masks: np.ndarray, regions: np.ndarray, areas: np.ndarray) -> Columns:
    """The peers' figures; runs in their environment, without blemish."""
    import adeval
    from adeval.au_pro import compute_pro, trapezoid

    truth, peaks = masks.any((1, 2)).astype(int), maps.max((1, 2))
    pixels, scores = masks.ravel().astype(int), maps.ravel()
    sizes = np.bincount(regions.ravel())
    weights = np.where(pixels == 1, 1 / sizes[regions.ravel()], 1.0)
    coarse = adeval.auroc_aupr_aupro(maps, masks.astype(np.uint8))
    curve = compute_pro(list(maps), list(masks.astype(int)), THRESHOLDS)
    mvtec = {
        name: float(trapezoid(*curve, x_max=limit) / limit)
        for name, limit in (("aupro", 0.3), ("aupro_005", 0.05))
    }
    return {
        "scikit-learn": {
            **_sklearn("image", truth, peaks),
            **_sklearn("pixel", pixels, scores),
            "aupro": _weighted_roc(pixels, scores, weights, 0.3),
            "aupro_005": _weighted_roc(pixels, scores, weights, 0.05),
        },
        "MVTec (adeval)": mvtec,
        "definition": {"spro": _direct_spro(maps, regions, areas, 0.05)},
        COARSE: dict(zip(("pixel_auroc", "pixel_ap", "aupro"), map(float, coarse), strict=True)),
    }


def _sklearn(prefix: str, truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    precision, recall, _ = precision_recall_curve(truth, scores)
    total = np.where(precision + recall > 0, precision + recall, 1)
    return {
        f"{prefix}_auroc": float(roc_auc_score(truth, scores)),
        f"{prefix}_ap": float(average_precision_score(truth, scores)),
        f"{prefix}_f1max": float((2 * precision * recall / total).max()),
    }


def _weighted_roc(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray, limit: float
) -> float:
    from sklearn.metrics import roc_curve

    fpr, pro, _ = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    return _area_up_to(fpr, pro, limit)


def _direct_spro(maps: np.ndarray, regions: np.ndarray, areas: np.ndarray, limit: float) -> float:
    thresholds = np.unique(maps)[::-1]

    def reached(scores: np.ndarray) -> np.ndarray:
        return scores.size - np.searchsorted(np.sort(scores), thresholds, side="left")

    spro = np.zeros(thresholds.size)
    for number, area in enumerate(areas, start=1):
        spro += np.minimum(reached(maps[regions == number]) / area, 1) / len(areas)
    good = maps[regions == 0]
    curve = (np.concatenate(([0.0], part)) for part in (reached(good) / good.size, spro))
    return _area_up_to(*curve, limit)


def _area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    inside = x <= limit
    x_cut = np.concatenate((x[inside], [limit]))
    # Past the last x inside, np.interp would take the upper end of a step that lies at it.
    last = int(inside.sum()) - 1
    rest = (limit - x[last]) / (x[last + 1] - x[last]) if last + 1 < x.size else 0.0
    y_end = y[last] + rest * (y[min(last + 1, y.size - 1)] - y[last])
    y_cut = np.concatenate((y[inside], [y_end]))
    return float((np.diff(x_cut) * (y_cut[1:] + y_cut[:-1]) / 2).sum() / limit)


# Running --------------------------------------------------------------------------------


def peer_environment(folder: Path) -> Path:
    """A fresh environment with the peers; its Python. adeval's torch is optional, and left out."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS], check=True)
    subprocess.run([*pip, "--no-deps", "adeval==1.1.0"], check=True)
    return python


def show(name: str, columns: Columns) -> None:
    """One row a figure, one column an implementation; a dash where it has none."""
    print(f"\n{name}\n{'':12}" + "".join(f"{column:>19}" for column in columns))
    for figure in columns["blemish"]:
        row = [columns[column].get(figure) for column in columns]
        cells = "".join(f"{'-':>19}" if value is None else f"{value:19.6f}" for value in row)
        print(f"{figure:12}{cells}")


def largest_difference(columns: Columns, figures: Columns) -> float:
    """Between ours and these implementations'."""
    mine = columns["blemish"]
    return max(
        abs(value - mine[name]) for other in figures.values() for name, value in other.items()
    )


def compare(name: str, data: dict[str, np.ndarray], python: Path, scratch: Path) -> dict[str, Any]:
    regions, areas = regions_of(data["masks"])
    everything = {**data, "regions": regions, "areas": areas}
    np.savez(scratch / "maps.npz", **everything)
    command = [str(python), __file__, "--peers", str(scratch / "maps.npz")]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    columns = {**ours(**everything), **json.loads(answer)}
    show(name, columns)
    exact = {key: columns[key] for key in ("scikit-learn", "definition")}
    return {
        "maps": name,
        "images": len(data["maps"]),
        "pixels": int(data["masks"].size),
        "figures": columns,
        "largest_difference_to_exact": largest_difference(columns, exact),
        "largest_difference_to_mvtec": largest_difference(
            columns, {"MVTec": columns["MVTec (adeval)"]}
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--peers", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peers is not None:
        with np.load(options.peers) as data:
            json.dump(peers(**data), sys.stdout)
        return

    from _record import write_result

    cases = {
        "made up": synthetic(24, 256, None),
        "made up, many ties": synthetic(24, 256, 40),
    }
    if (options.shared / "mvtec_256" / "bottle").is_dir():
        cases["HETMM on MVTec AD bottle"] = bottle(options.shared)
    with tempfile.TemporaryDirectory() as folder:
        python = peer_environment(Path(folder) / "peers")
        rows = [compare(name, data, python, Path(folder)) for name, data in cases.items()]
    write_result(options.json, {"benchmark": "metrics_agreement", "cases": rows}, seed=0)


if __name__ == "__main__":
    main()
