"""What is fuzzed, and what must hold for every input, whatever it is.

Unsigned changes (a disk's, a careless hand's) must be refused or change nothing. Changes that are
signed again (checksums made to fit, which only a hand can do) must be refused, or give a bundle
whose results are well-formed; where they touch nothing that a verdict depends on, the verdict
stays. A refusal is a BlemishError with one sentence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from blemish.bundle import Manifest, read_content, read_history, read_manifest, unpack_bundle
from blemish.bundle.manifest import _digest
from blemish.errors import BlemishError, BundleError, ImageError
from blemish.imaging import read_image
from blemish.inspector import Inspector
from blemish.verdict import Inspection, judge

from .archives import archive_mutated
from .mutation import damaged, json_mutated, json_text, picture_mutated, safetensors_mutated
from .seeds import PROBE, Base, part, pictures

OUTCOMES = ("refused", "equal", "different")
MAX_PIXELS = 4_000_000
# Keys of a manifest that no verdict depends on.
INERT = {"name", "created", "change", "training", "software", "good", "false_alarm_rate", "parent"}


class Finding(Exception):
    """Something that must not happen."""


class Fuzzer:
    """Turns a number into an input, gives it to what is tested, and looks at what comes of it."""

    def __init__(self, seed: int, bases: Sequence[Base], scratch: Path) -> None:
        self._seed, self._bases, self._scratch = seed, bases, scratch
        self._target_of = self.target_chooser(seed)
        scratch.mkdir()
        self._pictures = pictures()
        self._sound = {name: read_image(data) for name, data in self._pictures.items()}
        self._place(bases[0])

    TARGETS: tuple[tuple[str, int], ...] = (
        ("image", 46),
        ("manifest, unsigned", 8),
        ("manifest, signed", 18),
        ("tensors, unsigned", 4),
        ("tensors, signed", 12),
        ("pictures, signed", 4),
        ("packed, damaged", 4),
        ("packed, made", 4),
    )

    @classmethod
    def target_chooser(cls, seed: int) -> Callable[[int], int]:
        """What gives the target of an input's number, by its position in TARGETS."""
        weights = [weight for _, weight in cls.TARGETS]

        def target_of(number: int) -> int:
            return Random(f"{seed}:{number}:target").choices(range(len(weights)), weights)[0]

        return target_of

    def run(self, number: int) -> str:
        """Do one input; gives one of OUTCOMES, raises Finding (or anything) where it must not."""
        rng = Random(f"{self._seed}:{number}")
        name = self.TARGETS[self._target_of(number)][0]
        tests: dict[str, Callable[[Random], str]] = {
            "image": self._image,
            "manifest, unsigned": self._manifest_unsigned,
            "manifest, signed": self._manifest_signed,
            "tensors, unsigned": self._tensors_unsigned,
            "tensors, signed": self._tensors_signed,
            "pictures, signed": self._pictures_signed,
            "packed, damaged": lambda rng: self._packed(rng, signed=False),
            "packed, made": lambda rng: self._packed(rng, signed=True),
        }
        return tests[name](rng)

    # Images -----------------------------------------------------------------------------

    def _image(self, rng: Random) -> str:
        name = rng.choice(sorted(self._pictures))
        data = self._pictures[name]
        structured = rng.random() < 0.5
        changed = picture_mutated(rng, data) if structured else damaged(rng, data)
        if rng.random() < 0.1:
            changed = damaged(rng, changed)
        try:
            image = read_image(
                changed, max_pixels=MAX_PIXELS, bit_depth=rng.choice([None, None, 12])
            )
        except ImageError as error:
            check_sentence(error, "image bytes: ")
            return "refused"
        if image.dtype != np.float32 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise Finding(f"{name}: the image is {image.dtype} of shape {image.shape}")
        if not (image.min() >= 0 and image.max() <= 1):
            raise Finding(f"{name}: values run from {image.min()} to {image.max()}")
        if np.array_equal(image, self._sound[name]):
            return "equal"
        if name.startswith("png") and not structured and changed.startswith(data[:8]):
            raise Finding(f"{name}: a PNG whose checksums fit no longer gave another picture")
        return "different"

    # Bundles ----------------------------------------------------------------------------

    def _manifest_unsigned(self, rng: Random) -> str:
        base = self._place(rng.choice(self._bases))
        files = [path for path in sorted(self._work.rglob("*.json")) if path.is_file()]
        path = rng.choice([self._work / "manifest.json", *files])
        path.write_bytes(damaged(rng, path.read_bytes()))
        return self._unsigned(base, history=True)

    def _tensors_unsigned(self, rng: Random) -> str:
        base = self._place(rng.choice(self._bases))
        path = rng.choice(sorted(self._work.glob("*.safetensors")))
        path.write_bytes(damaged(rng, path.read_bytes()))
        return self._unsigned(base, pictures=True)

    def _unsigned(self, base: Base, *, history: bool = False, pictures: bool = False) -> str:
        """Refused, or the verdict, the history and the pictures of the bundle as it was."""
        try:
            inspector = Inspector.load(self._work, device="cpu")
            result = inspector.inspect(PROBE)
            if history:
                entries = inspector.history
                if entries != read_history(base.folder):
                    raise Finding("a history that was changed is believed")
            if pictures:
                sound = Inspector.load(base.folder, device="cpu")
                for template in inspector.templates if inspector.keep_pictures else ():
                    shown, kept = inspector.picture(template.id), sound.picture(template.id)
                    if not np.array_equal(shown, kept):
                        raise Finding("a picture that was changed is shown")
        except BlemishError as error:
            check_sentence(error)
            return "refused"
        if not same(result, base.verdict):
            raise Finding("a changed bundle is believed, and its verdict is another")
        return "equal"

    def _manifest_signed(self, rng: Random) -> str:
        base = self._place(rng.choice(self._bases))
        path = self._work / "manifest.json"
        body, touched = json_mutated(rng, json.loads(path.read_bytes()))
        self._sign(path, rng, body)
        return self._signed(rng, base, inert=touched <= INERT)

    def _tensors_signed(self, rng: Random) -> str:
        base = self._place(rng.choice(self._bases))
        path = self._work / "manifest.json"
        body = json.loads(path.read_bytes())
        parts = [part for part in sorted(body["files"]) if not part.startswith("pictures")]
        part = rng.choice(parts)
        # Any other file is a graph: a program, which only its maker can vouch for.
        change = damaged if Path(part).suffix else safetensors_mutated
        self._replace(body["files"][part], lambda data: change(rng, data))
        if rng.random() < 0.1:
            body, _ = json_mutated(rng, body)
        self._sign(path, rng, body)
        return self._signed(rng, base, inert=False)

    def _pictures_signed(self, rng: Random) -> str:
        base = self._place(rng.choice([base for base in self._bases if base.name != "tfanet"]))
        path = self._work / "manifest.json"
        body = json.loads(path.read_bytes())
        parts = [part for part in sorted(body["files"]) if part.startswith("pictures")]

        def changed(data: bytes) -> bytes:
            from safetensors.numpy import load, save

            if rng.random() < 0.3:
                return safetensors_mutated(rng, data)
            tensors = load(data)
            key = rng.choice(sorted(tensors))
            tensors[key] = np.frombuffer(picture_mutated(rng, tensors[key].tobytes()), np.uint8)
            if rng.random() < 0.1:
                tensors[key] = np.frombuffer(rng.choice(list(self._pictures.values())), np.uint8)
            return save(tensors)

        self._replace(body["files"][rng.choice(parts)], changed)
        self._sign(path, rng, body)
        return self._signed(rng, base, inert=True, deep=True)

    def _signed(self, rng: Random, base: Base, *, inert: bool, deep: bool = False) -> str:
        """Refused, or a well-formed result; the same one where nothing was touched that counts."""
        try:
            inspector = Inspector.load(self._work, device="cpu")
        except BlemishError as error:
            check_sentence(error)
            return "refused"
        # What loads inspects: a line must learn of a broken bundle before its first part. Only
        # weights that overflow with some images and not with others are told by the image.
        try:
            result = inspector.inspect(PROBE)
        except BundleError as error:
            check_sentence(error)
            if "the score of this image is" not in str(error):
                raise
            return "refused"
        check_result(inspector, result)
        if deep or rng.random() < 0.25:
            self._use(rng, inspector)
        if same(result, base.verdict):
            return "equal"
        if inert:
            raise Finding("the verdict is another though nothing was touched that counts")
        return "different"

    def _use(self, rng: Random, inspector: Inspector) -> None:
        """What else is done with a bundle; it is refused or done, and what results is sound."""
        template = inspector.templates[0].id if inspector.templates else ""
        ways: list[Callable[[], Any]] = [
            lambda: inspector.picture(template),
            lambda: inspector.template_pictures(),
            lambda: inspector.history,
            lambda: inspector.calibrate(false_alarm_rate=0.5),
            lambda: inspector.update(add=[part(51)]),
            lambda: inspector.update(remove=[template]),
            lambda: inspector.update(add=[part(52)], recalibrate=False),
            lambda: inspector.rollback(1),
            lambda: inspector.save(self._work),
            lambda: inspector.save(self._scratch / "elsewhere" / "copy.blemish"),
        ]
        (self._scratch / "elsewhere").mkdir(exist_ok=True)
        for way in rng.sample(ways, 3):
            try:
                way()
            except BlemishError as error:
                check_sentence(error)
        check_result(inspector, inspector.inspect(PROBE))
        self._check_nothing_escaped()

    # Packed bundles ---------------------------------------------------------------------

    def _packed(self, rng: Random, *, signed: bool) -> str:
        base = rng.choice(self._bases)
        data = base.packed.read_bytes()
        outside = self._scratch.parent.resolve() / "outside"
        changed = archive_mutated(rng, data, outside) if signed else damaged(rng, data)
        file, where = self._scratch / "packed.zip", self._scratch / "place"
        file.write_bytes(changed)
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        target = where / "part.blemish"
        try:
            unpack_bundle(file, target)
        except BlemishError as error:
            check_sentence(error)
            if list(where.iterdir()):
                raise Finding(f"{list(where.iterdir())} was left by what was refused") from error
            self._check_nothing_escaped()
            return "refused"
        self._check_nothing_escaped()
        manifest = read_manifest(target)
        for name in manifest.files:
            read_content(target, manifest, name)
        read_history(target)
        if _tree(target) == _tree(base.folder):
            return "equal"
        if not signed:
            raise Finding("a damaged packed bundle was unpacked to something else")
        return "different"

    # Help -------------------------------------------------------------------------------

    def _place(self, base: Base) -> Base:
        """Lay a sound copy of a bundle out, to be changed."""
        self._work = self._scratch / "work.blemish"
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(base.folder, self._work)
        return base

    def _replace(self, record: dict[str, Any], change: Callable[[bytes], bytes]) -> None:
        """Change a file, and its record so that it fits."""
        path = self._work / record["file"]
        data = change(path.read_bytes())
        path.write_bytes(data)
        record["sha256"], record["bytes"] = sha256(data).hexdigest(), len(data)

    def _sign(self, path: Path, rng: Random, body: Any) -> None:
        """Write a manifest with a checksum that fits, now and then in odd JSON."""
        if isinstance(body, dict):
            body.pop("sha256", None)
            body["sha256"] = _digest(body)
        path.write_bytes(json_text(rng, body) if rng.random() < 0.2 else json.dumps(body).encode())

    def _check_nothing_escaped(self) -> None:
        known = {"work.blemish", "elsewhere", "packed.zip", "place"}
        outside = {path.name for path in self._scratch.iterdir()} - known
        outside |= {path.name for path in self._scratch.parent.iterdir()} - {self._scratch.name}
        if outside:
            raise Finding(f"files were written outside: {outside}")


def check_sentence(error: BlemishError, start: str = "") -> None:
    """A refusal is one sentence for people, not a traceback or a dump."""
    text = str(error)
    if not text.strip() or "\n" in text or "Traceback" in text or len(text) > 1500:
        raise Finding(f"this is no sentence: {text[:300]!r}") from error
    if not text.startswith(start):
        raise Finding(f"the sentence does not say where: {text[:300]!r}") from error
    text.encode()  # a sentence must be printable
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "allocate memory" in str(cause):
            raise Finding(f"memory ran out: {text[:300]}") from error
        cause = cause.__cause__


def check_result(inspector: Inspector, result: Inspection) -> None:
    """A result that says something: numbers, and a verdict that follows from them."""
    if not np.isfinite(result.score) or not np.isfinite(result.anomaly_map).all():
        raise Finding(f"the score is {result.score}")
    if result.anomaly_map.shape != (inspector.view.size,) * 2:
        raise Finding(f"the map is {result.anomaly_map.shape}")
    calibration = inspector.calibration
    told = (result.p_value, result.threshold, result.verdict)
    judged = judge(result.score, calibration)
    if told != (judged.p_value, judged.threshold, judged.verdict):
        raise Finding(f"the verdict {told} does not follow from the score {result.score}")
    if calibration is None:
        expected = "review"
    elif result.score > calibration.threshold:
        expected = "fail"
    elif (limit := calibration.review_threshold) is not None and result.score > limit:
        expected = "review"
    else:
        expected = "pass"
    if result.verdict != expected:
        raise Finding(f"the verdict is {result.verdict}, not {expected}")
    json.dumps(result.to_dict(), allow_nan=False)


def same(one: Inspection, other: Inspection) -> bool:
    """Whether two results of one image are equal to the last bit."""
    mine = (one.score, one.p_value, one.threshold, one.verdict, one.regions)
    others = (other.score, other.p_value, other.threshold, other.verdict, other.regions)
    return mine == others and np.array_equal(one.anomaly_map, other.anomaly_map)


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


__all__ = ["Finding", "Fuzzer", "Manifest", "OUTCOMES"]
