"""What an inspector cannot see: synthetic defects on its own good parts, judged as it judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import cv2
import numpy as np
import numpy.typing as npt

from blemish.detectors import Detector, Images, Inside, TiledDetector
from blemish.errors import CalibrationError
from blemish.imaging import Progress, silent
from blemish.imaging.contact import captioned
from blemish.imaging.defects import KINDS, Defect, make_defect
from blemish.imaging.learning import EXAMINED, FEWEST, choose
from blemish.imaging.sketches import Sketch
from blemish.inspector.calibrating import own_templates, usable
from blemish.inspector.pictures import Chosen
from blemish.inspector.snapshot import Snapshot
from blemish.verdict.detection import Detection, Trial

PARTS = 24  # good parts that defects are laid on
TRIALS = 20 * len(KINDS)  # 20 of each kind: a share by kind is then known to about 10 points
FAR = 8  # times from the middle good part to the upper quarter: a score beyond it stands out
FEWEST_SCORES = 8
PICTURE = 512  # px: the side of the drawn part
_NAMED = 5
SIZES = (3.0, 1 / 4)  # the smallest in pixels, the largest as a share of the view's side


def study_detection(
    now: Snapshot, *, trials: int = TRIALS, seed: int = 0, progress: Progress = silent
) -> Detection:
    """Lay defects on the version's good parts, each left out of the templates, and judge them.

    Raises CalibrationError without a threshold or kept pictures of good parts that may be scored.
    """
    calibration = now.calibration
    if calibration is None:
        raise CalibrationError(
            "What an inspector finds is asked at its threshold, and this one has none; calibrate it"
        )
    if isinstance(now.detector, TiledDetector):
        raise CalibrationError(
            "What an inspector of tiles finds cannot be told yet: a defect would have to lie on "
            "several tiles at once; check one without --tile at the size of a tile"
        )
    good = [key for key in now.manifest.good if key in now.pictures]
    own = own_templates(good, now.manifest.templates)
    positions = usable(now.detector, own)
    if not positions:
        raise CalibrationError(
            "This inspector kept no pictures of good parts that it has not learned from, so there "
            "is nothing to lay defects on; fit it again, without --no-pictures"
        )
    chosen = [positions[int(at)] for at in _spaced(len(positions), min(PARTS, trials))]
    pictures = Chosen(now.pictures, [good[index] for index in chosen])
    side = now.manifest.view["size"]
    assert isinstance(side, int)
    laid = _Laid(pictures, trials, side, seed)
    results = []
    scored = _scores(now.detector, laid, [own[index] for index in chosen])
    progress("looking for synthetic defects", 0, trials)
    for done, (defect, score) in enumerate(scored, start=1):
        found = calibration.verdict(score) != "pass"
        results.append(Trial(defect.kind, defect.size, defect.contrast, defect.centre, found))
        progress("looking for synthetic defects", done, trials)
    return Detection.from_trials(
        results,
        side=side,
        parts=len(chosen),
        threshold=calibration.threshold,
        version=now.manifest.version,
    )


def remedies(now: Snapshot, progress: Progress = silent) -> list[str]:
    """Tell what would let this version find smaller defects, from its good parts alone."""
    found = []
    apart = standing_out(now, progress)
    if apart:
        named = ", ".join(f"{source} ({score:.3g})" for source, score in apart[:_NAMED])
        found.append(
            f"{len(apart)} of the good parts stand out and push the threshold up: {named}. Look at "
            "them; leave out what is not good, or ask for a rate that allows for them"
        )
    if now.manifest.view.get("align", "none") == "none":
        good = [key for key in now.manifest.good if key in now.pictures]
        sketches = [
            Sketch.of(now.pictures[good[at]]) for at in _spaced(len(good), EXAMINED).tolist()
        ]
        taken = choose(sketches[0], None, sketches).taken if len(sketches) >= FEWEST else "none"
        if taken != "none":
            found.append(f"the parts lie moved or turned ({taken} fits them best): --align auto")
    side = now.manifest.view["size"]
    assert isinstance(side, int)
    found.append(f"a larger view shows smaller defects, at four times the work: --size {2 * side}")
    return found


def standing_out(now: Snapshot, progress: Progress = silent) -> list[tuple[str, float]]:
    """Name the good parts that score far from all others, and their scores, highest first."""
    calibration = now.calibration
    if calibration is None or len(calibration.scores) < FEWEST_SCORES:
        return []
    middle, upper = np.quantile(calibration.scores, [0.5, 0.75])
    limit = middle + FAR * (upper - middle)
    if calibration.scores[-1] <= limit:
        return []
    good = [key for key in now.manifest.good if key in now.pictures]
    own = own_templates(good, now.manifest.templates)
    positions = usable(now.detector, own)
    pictures = Chosen(now.pictures, good)
    maps = now.detector.calibration_maps(
        pictures, positions, [own[index] for index in positions], progress
    )
    sources = {template.id: template.source for template in now.manifest.templates}
    scores = [
        (sources.get(good[at], good[at]), now.detector.score(one, pictures.inside(at)))
        for at, one in zip(positions, chain.from_iterable(maps), strict=True)
    ]
    return sorted((named for named in scores if named[1] > limit), key=lambda named: -named[1])


def draw_detection(
    now: Snapshot, detection: Detection, *, words: bool = True
) -> npt.NDArray[np.uint8]:
    """Draw the share of defects that passed over a good part, place by place: [H, W, 3].

    Red is where most passed; with `words` lines above say what is found.
    """
    side = PICTURE
    good = [key for key in now.manifest.good if key in now.pictures]
    part = np.full((side, side, 3), 0.5, np.float32)
    if good:
        seen = now.pictures[good[0]]
        part = cv2.resize(seen, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    grey = part.mean(axis=2, keepdims=True).repeat(3, axis=2)
    passed = 1 - np.array(detection.places, np.float32)
    heat = cv2.resize(passed, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)[..., None]
    # From green, where all was found, over yellow to red.
    colour = np.concatenate([np.minimum(1, 2 * heat), np.minimum(1, 2 - 2 * heat), 0 * heat], 2)
    drawn: npt.NDArray[np.uint8] = np.rint(255 * (0.65 * grey + 0.35 * colour)).astype(np.uint8)
    if not words:
        return drawn
    first, second = detection.summary
    found, _, contrasts = first.partition(" (")
    bands = second.split(", ")
    return captioned(
        drawn,
        f"finds {found}",
        f"({contrasts}",
        f"passes {', '.join(bands[:3])},",
        f"  {', '.join(bands[3:])}",
        "red: defects pass here; green: they are found",
    )


class _Laid:
    """Pictures with defects, each made when asked for: sizes evenly spread, kinds in turn."""

    def __init__(self, pictures: Chosen, trials: int, side: int, seed: int) -> None:
        self._pictures, self._trials, self._seed = pictures, trials, seed
        largest = max(SIZES[0] + 1, SIZES[1] * side)
        sizes = np.geomspace(SIZES[0], largest, trials)
        self._sizes = np.random.default_rng(seed).permutation(sizes)

    def __len__(self) -> int:
        return self._trials

    def part(self, index: int) -> int:
        """Which of the pictures trial `index` is on."""
        return index % len(self._pictures)

    def inside(self, index: int) -> Inside:
        """Which pixels count in trial `index`."""
        return self._pictures.inside(self.part(index))

    def defect(self, index: int) -> Defect:
        """The defect of trial `index`, the same each time."""
        # A part sees every kind in the end: their numbers have no factor in common, or take turns.
        kind = KINDS[(index + index // len(self._pictures)) % len(KINDS)]
        inside = self.inside(index)
        if inside is not None and not inside.any():
            inside = None
        return make_defect(
            self._pictures[self.part(index)],
            np.random.default_rng((self._seed, index)),
            kind=kind,
            size=float(self._sizes[index]),
            inside=inside,
        )


def _scores(detector: Detector, laid: _Laid, own: Sequence[int]) -> Iterator[tuple[Defect, float]]:
    """Each defect and the score of its picture, its part left out of the templates."""
    for index in range(len(laid)):
        defect = laid.defect(index)
        images: Images = [defect.image]
        maps = next(iter(detector.calibration_maps(images, [0], [own[laid.part(index)]])))
        yield defect, detector.score(maps[0], laid.inside(index))


def _spaced(count: int, wanted: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)
