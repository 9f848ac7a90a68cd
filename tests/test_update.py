"""Hot update: what comes scores 0, what goes is gone, and every version can be had back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.bundle import Manifest, read_manifest, store, version_file
from blemish.bundle.manifest import NAME, _digest
from blemish.demo.parts import render
from blemish.detectors import HETMM
from blemish.detectors.hetmm.templates import LevelTemplates, TemplateSet
from blemish.detectors.hetmm.vectors import MemoryVectors
from blemish.errors import (
    BlemishError,
    BundleError,
    CalibrationError,
    ImageError,
    NoImagesError,
    ParameterError,
)
from blemish.imaging import silent
from blemish.inspector import Inspector, opening, updating
from blemish.inspector.calibrating import calibrate
from blemish.verdict import Rule

SIZE = 32  # px: what is tested here does not depend on it
CLUSTERS = find_spec("sklearn") is not None
RAW: dict[str, Any] = {"windows": "manual", "normalise": False, "statistic": "max"}
SETS: dict[str, dict[str, Any]] = {
    "default": {"sheets": None},
    "all": {"sheets": None, **RAW},
    "spaced": {"sheets": 4, **RAW},
    "random": {"sheets": 4, "selection": "random", **RAW},
    "pts": {"sheets": 3, "selection": "pts", **RAW},
    "kcenter": {"sheets": 3, "selection": "kcenter", **RAW},
}
# PTS clusters with scikit-learn, which the base install does not have.
KINDS = [
    pytest.param(
        kind, marks=pytest.mark.skipif(kind == "pts" and not CLUSTERS, reason="no sklearn")
    )
    for kind in SETS
]
RAW_KINDS = KINDS[1:]


def picture(seed: int) -> np.ndarray:
    """One good made-up part [32, 32, 3], uint8."""
    return np.ascontiguousarray(render(seed, size=64).image[::2, ::2])


GOOD = [picture(seed) for seed in range(6)]
NEW = [picture(seed) for seed in range(50, 55)]
PROBE = picture(99)


def inspector(images: list[np.ndarray] = GOOD, **options: Any) -> Inspector:
    """An inspector of a few made-up parts, calibrated at 0.2."""
    made = Inspector(HETMM(**{"sheets": None, **options}), size=SIZE, device="cpu")
    return made.fit(images).calibrate(false_alarm_rate=0.2)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Bundles of six good parts, one a kind of set and precision; to be copied, not changed."""

    @cache
    def bundle_of(kind: str, precision: str = "float32") -> Path:
        folder = tmp_path_factory.mktemp(kind) / "part.blemish"
        inspector(**SETS[kind], precision=precision).save(folder)
        return folder

    return bundle_of


@pytest.fixture
def bundle(shelf: Callable[..., Path], tmp_path: Path) -> Path:
    """A bundle of six templates, to be changed at will."""
    return Path(shutil.copytree(shelf("default"), tmp_path / "part.blemish"))


@pytest.fixture
def raw(shelf: Callable[..., Path], tmp_path: Path) -> Path:
    """The same, of distances as they are within windows."""
    return Path(shutil.copytree(shelf("all"), tmp_path / "raw.blemish"))


def load(folder: Path) -> Inspector:
    """The inspector of a bundle, on the CPU."""
    return Inspector.load(folder, device="cpu")


def score(one: Inspector, image: np.ndarray = PROBE) -> float:
    """The score of one image."""
    return one.inspect(image).score


def same(one: Inspector, other: Inspector) -> bool:
    """Whether two inspectors give the same map and verdict of the probe, bit by bit."""
    mine, others = one.inspect(PROBE), other.inspect(PROBE)
    return np.array_equal(mine.anomaly_map, others.anomaly_map) and (
        mine.verdict,
        mine.threshold,
        mine.version,
    ) == (others.verdict, others.threshold, others.version)


@pytest.mark.parametrize("kind", RAW_KINDS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_added_picture_scores_zero(
    shelf: Callable[..., Path], kind: str, precision: str
) -> None:
    """Full or compressed, an added picture then matches itself: 0 but for the storage's rounding.

    A vector stored in half precision has a length of 1 only to 11 bits, so its square misses 1 by
    up to 2^-10; the levels' weights sum to 2.
    """
    made = load(shelf(kind, precision))
    before = score(made, NEW[0])
    report = made.update(add=[NEW[0]], recalibrate=False)
    assert [record.source for record in report.added] == ["array 0"]
    assert before > 0.1
    assert abs(score(made, NEW[0])) < (1e-5 if precision == "float32" else 2 * 2**-10)


@pytest.mark.parametrize("kind", KINDS)
def test_adding_and_removing_is_as_if_never_added(shelf: Callable[..., Path], kind: str) -> None:
    """A picture that came and went leaves every score as it was."""
    made = load(shelf(kind))
    before, templates = made.inspect(PROBE).anomaly_map, made.templates
    (record,) = made.update(add=[NEW[0]], recalibrate=False).added
    made.update(remove=[record.id], recalibrate=False)
    np.testing.assert_allclose(made.inspect(PROBE).anomaly_map, before, atol=1e-6)
    assert made.templates == templates


def alone(made: Inspector, images: list[np.ndarray]) -> HETMM:
    """A detector with the same backbone whose sheets are those of `images`, put in directly."""
    detector = made.detector
    assert isinstance(detector, HETMM)
    pixels = [made.read(image) for image in images]
    empty = copy(detector)
    empty.sets_ = tuple(replace_vectors(each, 0) for each in detector.sets_)
    empty.templates_ = []
    return empty.added(detector.sheets_of(pixels, range(len(pixels))), len(pixels))


def replace_vectors(each: LevelTemplates, count: int) -> TemplateSet:
    """A level's set cut down to its first sheets."""
    assert isinstance(each, TemplateSet)
    pixels, channels, _ = each.vectors.shape
    kept = np.zeros((pixels, channels, count), np.float32)
    return replace(each, vectors=MemoryVectors(kept), sources=None)


def expected_threshold(made: Inspector, images: list[np.ndarray], rate: float) -> float:
    """The leave-one-out threshold of a set that was made of `images` in one go."""
    pixels = [made.read(image) for image in images]
    return calibrate(
        alone(made, images), pixels, list(range(len(images))), Rule(rate), silent
    ).threshold


def test_a_removed_template_is_as_if_never_learned(raw: Path) -> None:
    """Removing by id, cut short too, leaves the set and the threshold that the others give."""
    made = load(raw)
    ids = [record.id for record in made.templates]
    report = made.update(remove=[ids[1][:6], ids[4]])
    assert [record.id for record in report.removed] == [ids[1], ids[4]]
    assert [record.id for record in made.templates] == [ids[0], ids[2], ids[3], ids[5]]
    others = [image for index, image in enumerate(GOOD) if index not in (1, 4)]
    fresh = alone(made, others)
    maps = fresh.maps([made.read(PROBE)])
    np.testing.assert_allclose(made.inspect(PROBE).anomaly_map, maps[0], rtol=1e-4, atol=1e-6)
    assert made.calibration is not None  # four parts are just enough for 0.2
    expected = expected_threshold(made, others, 0.2)
    assert made.calibration.threshold == pytest.approx(expected, rel=1e-5)


def test_the_threshold_follows(raw: Path) -> None:
    """After an update the threshold is that of calibrating a set made of all the images."""
    made = load(raw)
    before = made.calibration
    report = made.update(add=NEW[:2])
    assert made.calibration is not None
    assert report.calibration is made.calibration
    assert made.calibration != before
    assert len(made.calibration.scores) == 8
    expected = expected_threshold(made, [*GOOD, *NEW[:2]], 0.2)
    assert made.calibration.threshold == pytest.approx(expected, rel=1e-5)
    assert made.calibration.method == "leave-one-out"
    assert report.seconds.keys() == {"features", "templates", "measuring", "calibration"}


def test_good_images_that_are_no_templates_still_calibrate(tmp_path: Path) -> None:
    """The bundle keeps every good picture, so a compressed set is calibrated on all of them."""
    made = inspector(sheets=3)
    made.save(tmp_path / "b")
    loaded = load(tmp_path / "b")
    loaded.update(add=[NEW[0]])
    made.update(add=[NEW[0]])
    assert made.calibration is not None
    assert len(made.calibration.scores) == 7
    assert loaded.calibration == made.calibration
    np.testing.assert_array_equal(loaded.picture(made.templates[-1].id), NEW[0])


def test_a_rate_that_cannot_be_promised_is_said(bundle: Path) -> None:
    """Too few good parts left: the version has no threshold, says so, and finds it again later."""
    made = load(bundle)
    report = made.update(remove=[record.id for record in made.templates[:3]])
    assert report.calibration is None
    assert "It has no threshold" in report.notes[0]
    assert "cannot be promised from 3 good parts" in report.notes[0]
    assert made.inspect(PROBE).verdict == "review"
    made.save(bundle)
    made = load(bundle)
    assert made.inspect(PROBE).verdict == "review"
    made.update(add=NEW[:3])  # the rate that was asked for is not forgotten
    assert made.calibration is not None
    assert made.calibration.false_alarm_rate == 0.2


def test_an_asked_rate_is_refused_before_anything_changes(bundle: Path) -> None:
    """An explicit rate that cannot be promised leaves the inspector as it was."""
    made = load(bundle)
    with pytest.raises(CalibrationError, match="needs 99"):
        made.update(add=[NEW[0]], false_alarm_rate=0.01)
    assert (made.version, len(made.templates)) == (1, 6)
    made.update(add=[NEW[0]], false_alarm_rate=0.125)
    assert made.calibration is not None
    assert made.calibration.false_alarm_rate == 0.125


def test_without_pictures_good_parts_are_asked_for(tmp_path: Path) -> None:
    """A bundle without pictures can be updated; its threshold needs good parts, or is gone."""
    made = Inspector(HETMM(sheets=None), size=SIZE, device="cpu", keep_pictures=False)
    made.fit(GOOD).calibrate(false_alarm_rate=0.2).save(tmp_path / "b")
    assert not list((tmp_path / "b").glob("pictures*"))
    bare = load(tmp_path / "b")
    assert "Give good parts" in bare.update(add=[NEW[0]]).notes[0]
    assert bare.inspect(PROBE).verdict == "review"
    with pytest.raises(ParameterError, match="no picture"):
        bare.picture(bare.templates[0].id)
    bare.update(add=[NEW[1]], good=GOOD)
    assert bare.calibration is not None
    assert len(bare.calibration.scores) == 6
    bare.save(tmp_path / "b")
    assert not list((tmp_path / "b").glob("pictures*"))
    assert same(load(tmp_path / "b"), bare)


def test_left_uncalibrated_on_request(bundle: Path) -> None:
    """recalibrate=False saves the time and leaves every verdict to a person."""
    made = load(bundle)
    assert "calibrate it" in made.update(add=[NEW[0]], recalibrate=False).notes[0]
    assert made.inspect(PROBE).verdict == "review"
    made.calibrate(false_alarm_rate=0.2)
    other = load(bundle)
    other.update(add=[NEW[0]])
    assert made.calibration == other.calibration


def test_what_is_already_there_is_skipped(bundle: Path) -> None:
    """A picture that is a template, or given twice, is named; the others are still learned."""
    made = load(bundle)
    report = made.update(add=[GOOD[2], NEW[0], NEW[0]])
    assert report.skipped == ("array 0", "array 2")
    assert len(report.added) == 1
    again = made.update(add=[NEW[0]])
    assert (again.version, again.skipped, again.added) == (2, ("array 0",), ())
    assert made.version == 2


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda made: made.update(remove=["zzzz"]), "no template 'zzzz' among the 6"),
        (lambda made: made.update(remove=[made.templates[0].id[:3]]), "too short"),
        (lambda made: made.update(remove=[t.id for t in made.templates]), "the last template"),
        (lambda made: made.update(add=["no-such.png"]), "no-such.png"),
        (lambda made: made.update(add=[NEW[0], NEW[1] / 300.0 - 1]), "array 1"),
        (lambda made: made.rollback(7), "no version 7"),
        (lambda made: made.rollback(1), "the one in use"),
    ],
)
def test_refusals_change_nothing(bundle: Path, ask: Any, said: str) -> None:
    """What cannot be done is one sentence, and the inspector and its version stay."""
    made, before = load(bundle), load(bundle)
    with pytest.raises(BlemishError, match=said):
        ask(made)
    assert same(made, before)
    assert len(made.history) == 1


def test_near_ids_are_named(bundle: Path) -> None:
    """A mistyped id names the one that was meant, and an ambiguous one all it could be."""
    templates = read_manifest(bundle).templates
    first = templates[0].id
    typed = first[:8] + ("0" if first[8] != "0" else "1") + first[9:]
    with pytest.raises(ParameterError, match=f"did you mean.*{first}"):
        updating.find_template(templates, typed)
    twins = [record.model_copy(update={"id": f"abcd{n}"}) for n, record in enumerate(templates)]
    with pytest.raises(ParameterError, match="could be 6 templates"):
        updating.find_template(twins, "abcd")


# Versions and the bundle ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_inspector_is_the_updated_one(
    shelf: Callable[..., Path], kind: str, tmp_path: Path
) -> None:
    """Base, additions and removals are put together again to the last bit, in every version."""
    folder = Path(shutil.copytree(shelf(kind), tmp_path / "b"))
    made = load(folder)
    made.update(add=NEW[:2])
    made.save(folder)
    made.update(add=[NEW[2]], remove=[made.templates[1].id])
    made.save(folder)
    loaded = load(folder)
    assert same(loaded, made)
    assert loaded.templates == made.templates
    gone = [made.templates[-1].id, made.templates[0].id]
    for one in (made, loaded):
        one.update(remove=gone, recalibrate=False)
    assert same(loaded, made)
    loaded.save(folder)
    assert same(load(folder), made)


def test_many_changes_are_written_whole(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    """After a number of changes the set is written anew, with the same scores ever after."""
    monkeypatch.setattr(updating, "MOST_STEPS", 2)
    made = load(bundle)
    for image in NEW[:4]:
        made.update(add=[image], remove=[made.templates[0].id])
        made.save(bundle)
        assert same(load(bundle), made)
    assert len(list(bundle.glob("templates-*"))) == 2
    assert len(read_manifest(bundle).steps) == 1
    made.rollback(2).save(bundle)
    assert same(load(bundle), made)


@pytest.mark.parametrize("kind", ["default", "all"])
def test_an_update_writes_only_what_is_new(
    kind: str, shelf: Callable[..., Path], tmp_path: Path
) -> None:
    """Old files stay untouched; adding writes the new sheets and pictures, removing no tensors.

    Either writes anew how good parts vary, where that was measured.
    """
    bundle = Path(shutil.copytree(shelf(kind), tmp_path / "part.blemish"))
    measured = ["measurement"] if kind == "default" else []
    made = load(bundle)
    before = {path.name: path.stat().st_mtime_ns for path in bundle.glob("*.safetensors")}
    whole = sum(path.stat().st_size for path in bundle.glob("templates-*"))
    made.update(add=[NEW[0]])
    made.save(bundle)
    after = {path.name: path.stat().st_mtime_ns for path in bundle.glob("*.safetensors")}
    assert {name: after[name] for name in before} == before
    new = sorted(after.keys() - before.keys())
    assert [name.split("-")[0] for name in new] == ["added", *measured, "pictures"]
    assert sum((bundle / name).stat().st_size for name in new) < whole / 3
    made.update(remove=[made.templates[0].id])
    made.save(bundle)
    last = {path.name for path in bundle.glob("*.safetensors")} - set(after)
    assert [name.split("-")[0] for name in last] == measured


@pytest.mark.parametrize("saved", [True, False])
def test_rollback_brings_every_bit_back(saved: bool, bundle: Path) -> None:
    """Going back is a new version with the old one's scores; history is never rewritten."""
    made = load(bundle)
    maps = {1: made.inspect(PROBE)}
    made.update(add=NEW[:1], by="Ada", note="a new batch")
    maps[2] = made.inspect(PROBE)
    made.update(remove=[made.templates[0].id])
    for version in (2, 1):
        if saved:
            made.save(bundle)
            made = load(bundle)
        made.rollback(version, by="Bo")
        result = made.inspect(PROBE)
        np.testing.assert_array_equal(result.anomaly_map, maps[version].anomaly_map)
        assert (result.threshold, result.p_value) == (
            maps[version].threshold,
            maps[version].p_value,
        )
    made.save(bundle)
    entries = load(bundle).history
    assert [entry.version for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.kind for entry in entries] == ["fit", "update", "update", "rollback", "rollback"]
    assert [entry.restored for entry in entries] == [None, None, None, 2, 1]
    assert (entries[1].by, entries[1].note, entries[3].by) == ("Ada", "a new batch", "Bo")
    assert [len(entry.added) for entry in entries] == [0, 1, 0, 0, 0]
    assert [entry.templates for entry in entries] == [6, 7, 6, 7, 6]


def test_versions_say_where_templates_came_from(bundle: Path, tmp_path: Path) -> None:
    """Each template keeps its file, time, person, note and version."""
    Image.fromarray(NEW[0]).save(tmp_path / "new.png")
    made = load(bundle)
    made.update(add=tmp_path / "new.png", by="Ada", note="from line 2")
    record = made.templates[-1]
    assert (record.source, record.by, record.note, record.version) == (
        str(tmp_path / "new.png"), "Ada", "from line 2", 2,
    )  # fmt: skip
    assert record.added == made.history[-1].created
    assert [r.version for r in made.templates[:-1]] == [1] * 6


def test_history_goes_along_to_another_folder(bundle: Path, tmp_path: Path) -> None:
    """Saved elsewhere, all versions come along; fitting anew over a bundle starts a new history."""
    made = load(bundle)
    made.update(add=[NEW[0]])
    made.save(tmp_path / "copy")
    copied = load(tmp_path / "copy")
    assert len(copied.history) == 2
    assert same(copied, made)
    copied.rollback(1).save(tmp_path / "copy")
    inspector(GOOD[:5]).save(tmp_path / "copy")
    again = load(tmp_path / "copy")
    assert [entry.version for entry in again.history] == [1]
    assert len(list((tmp_path / "copy").glob("*.safetensors"))) == 3
    assert len(list((tmp_path / "copy" / "versions").iterdir())) == 1


def test_two_who_change_one_bundle(bundle: Path) -> None:
    """Who loaded an older version is told, and does not overwrite what the other one did."""
    one, other = load(bundle), load(bundle)
    one.update(add=[NEW[0]])
    one.save(bundle)
    other.update(add=[NEW[1]])
    with pytest.raises(BundleError, match=r"changed by somebody else.*version 1 then, 2 now"):
        other.save(bundle)
    assert same(load(bundle), one)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_bundle_of_an_earlier_format_says_how_to_make_it_anew(bundle: Path, number: int) -> None:
    """What was written before this format is refused in one sentence with the command."""
    body = read_manifest(bundle).model_dump(mode="json")
    body["format"] = number
    (bundle / NAME).write_text(json.dumps({**body, "sha256": _digest(body)}))
    with pytest.raises(BundleError, match=f"has format {number}, .*blemish fit GOOD_DIR"):
        load(bundle)


def test_a_lost_history_is_named(bundle: Path) -> None:
    """A version's file that is gone or changed is named; the current version still inspects."""
    made = load(bundle)
    made.update(add=[NEW[0]])
    made.save(bundle)
    first = (
        bundle / "versions" / version_file(made._archive.find(1, made._fitted().version).manifest)
    )
    data = first.read_bytes()
    first.write_bytes(data.replace(b'"images": 6', b'"images": 7'))
    with pytest.raises(BundleError, match=rf"{first.name} was changed"):
        _ = load(bundle).history
    first.unlink()
    with pytest.raises(BundleError, match=rf"{first.name} is missing"):
        load(bundle).rollback(1)
    assert same(load(bundle), made)


# Crashes, threads, processes --------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_between_steps(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException
) -> None:
    """Whichever file an update fails to write, the old version is whole; then it works again."""
    made, before = load(bundle), load(bundle)
    made.update(add=[NEW[0]])
    calls = iter(range(1, 99))
    write = store.atomic_write

    def failing(path: Path, data: bytes) -> None:
        if next(calls) == step + 1:  # the first writes what is there already
            raise error
        write(path, data)

    monkeypatch.setattr(store, "atomic_write", failing)
    with pytest.raises(BundleError if isinstance(error, OSError) else KeyboardInterrupt):
        made.save(bundle)
    assert same(load(bundle), before)
    assert len(load(bundle).history) == 1
    monkeypatch.undo()
    made.save(bundle)
    assert same(load(bundle), made)
    assert len(list(bundle.glob("*.safetensors"))) == 6
    assert len(list((bundle / "versions").iterdir())) == 2


def test_threads_see_one_version_or_the_other(bundle: Path) -> None:
    """While ten updates happen, each result is one version's score, threshold and p-value."""
    live, stop = load(bundle), threading.Event()
    found: set[tuple[Any, ...]] = set()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                result = live.inspect(PROBE)
                found.add((result.version, result.score, result.threshold, result.p_value))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(70, 80):
        live.update(add=[picture(seed)], remove=[live.templates[0].id])
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len({version for version, *_ in found}) > 1
    expected = {11: live.inspect(PROBE)}
    for version in range(1, 11):
        expected[version] = live.rollback(version).inspect(PROBE)
    assert len({(result.score, result.threshold) for result in expected.values()}) == 11
    for version, *values in found:
        then = expected[version]
        assert values == [then.score, then.threshold, then.p_value]


READER = """
import sys
from blemish.inspector import Inspector
from blemish.demo.parts import render
probe = render(99, size=64).image[::2, ::2].copy()
print("ready", flush=True)
for line in sys.stdin:
    loaded = Inspector.load(sys.argv[1], device="cpu")
    result = loaded.inspect(probe)
    print(result.version, result.threshold.hex(), flush=True)
"""


def test_another_process_always_finds_a_valid_version(bundle: Path) -> None:
    """A process that loads the bundle again and again while it changes gets whole versions."""
    made = load(bundle)
    thresholds = {1: made.calibration.threshold.hex()}
    command = [sys.executable, "-c", READER, str(bundle)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        reader.stdin.write("go\n" * 6)
        reader.stdin.close()
        for image in NEW:
            made.update(add=[image])
            made.save(bundle)
            thresholds[made.version] = made.calibration.threshold.hex()
        seen = [line.split() for line in reader.stdout]
    assert len(seen) == 6
    assert all(thresholds[int(version)] == threshold for version, threshold in seen)


def test_a_reader_goes_on_when_a_bundle_is_replaced(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fit over the bundle between reading the manifest and the files is not an error."""
    other = inspector(GOOD[:5])
    read, done = opening.read_part, []

    def replaced(folder: Path, manifest: Manifest, part: str) -> Any:
        if not done:
            done.append(other.save(bundle))
        return read(folder, manifest, part)

    monkeypatch.setattr(opening, "read_part", replaced)
    assert same(load(bundle), other)


def test_nothing_to_learn_from_is_said(bundle: Path) -> None:
    """An empty list of images is an error, not a version."""
    with pytest.raises(NoImagesError):
        load(bundle).update(add=[])
    with pytest.raises(ImageError):
        load(bundle).update(add=[np.zeros((4, 4, 7), np.uint8)])
