"""An exported bundle is the same inspector: verdicts, updates, versions, and no PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.bundle import VECTORS, read_manifest, read_part
from blemish.detectors import HETMM
from blemish.errors import BundleError, ExportError, ParameterError
from blemish.export import parity
from blemish.inspector import Inspector
from blemish.train.tfanet import TFANet
from blemish.verdict import Judgement
from common import SIZE, Outcome, picture

# A child process on whose path there is no PyTorch, as on a line PC.
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "timm", "torchvision", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
PROBE = picture(50, "missing")


def child(code: str, *arguments: object) -> str:
    """What a Python process without PyTorch prints."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "BLEMISH_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def line(fitted: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fitted inspector, exported; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("line") / "board.blemish"
    fitted.export(folder)
    return folder


@pytest.fixture
def own(line: Path, tmp_path: Path) -> Path:
    """An exported bundle to change."""
    return Path(shutil.copytree(line, tmp_path / "line.blemish"))


def probes(parts: Path) -> list[Path]:
    """All test images."""
    return sorted((parts / "test").glob("*/*.png"))


def test_nothing_is_converted(fitted: Inspector, line: Path, parts: Path) -> None:
    """HETMM's graph is the one that learned: scores, maps and regions are equal to the bit."""
    exported = Inspector.load(line)
    assert exported.calibration == fitted.calibration
    for path in probes(parts):
        one, other = fitted.inspect(path), exported.inspect(path)
        assert (other.score, other.verdict) == (one.score, one.verdict)
        assert other.threshold == one.threshold
        told = [(region.box, region.template) for region in one.regions]
        assert [(region.box, region.template) for region in other.regions] == told
        np.testing.assert_array_equal(other.anomaly_map, one.anomaly_map)
        assert set(other.timings) == {"reading", "view", "features", "matching", "verdict"}
    made = [detector.graphs()[1] for detector in (fitted.detector, exported.detector)]
    assert made[0] == made[1]


def test_it_runs_without_pytorch(fitted: Inspector, line: Path, parts: Path) -> None:
    """A process that has no PyTorch gives the same verdicts, and can tell its history."""
    code = """
from blemish import Inspector
inspector = Inspector.load(sys.argv[1])
for path in sys.argv[2:]:
    result = inspector.inspect(path)
    print(result.verdict, result.score.hex())
print(inspector.history[0].kind)
"""
    paths = probes(parts)
    *lines, kind = child(code, line, *paths).splitlines()
    assert kind == "export"
    for path, text in zip(paths, lines, strict=True):
        verdict, score = text.split()
        wanted = fitted.inspect(path)
        assert verdict == wanted.verdict
        assert float.fromhex(score) == wanted.score


def test_exporting_needs_no_pytorch(bundle: Path, tmp_path: Path) -> None:
    """A HETMM is exported, in int8 too, where there is no PyTorch."""
    code = """
from blemish import Inspector
inspector = Inspector.load(sys.argv[1])
for precision in ("float32", "int8"):
    done = inspector.export(f"{sys.argv[2]}/{precision}", precision=precision)
    print(done.manifest.graphs.precision, done.agreement.largest > 0)
"""
    assert child(code, bundle, tmp_path).split() == ["float32", "False", "int8", "True"]


def test_updates_and_calibration_are_the_originals(bundle: Path, own: Path) -> None:
    """Adding, removing and recalibrating give the original's templates and threshold.

    The versions can be had back, to the last bit.
    """
    first, line_side = Inspector.load(bundle), Inspector.load(own)
    before = line_side.inspect(PROBE)
    gone = first.templates[2].id
    for made in (first, line_side):
        made.update(add=[picture(60), picture(61)], remove=[gone], note="second supplier")
    assert [t.id for t in line_side.templates] == [t.id for t in first.templates]
    assert line_side.calibration is not None
    assert first.calibration is not None
    np.testing.assert_array_equal(line_side.calibration.scores, first.calibration.scores)
    assert line_side.inspect(picture(60)).score == pytest.approx(0, abs=1e-5)
    line_side.save(own)
    again = Inspector.load(own)
    assert again.inspect(PROBE).score == line_side.inspect(PROBE).score
    again.rollback(1)
    assert np.array_equal(again.inspect(PROBE).anomaly_map, before.anomaly_map)
    assert [entry.kind for entry in again.history] == ["export", "update", "rollback"]


def test_thresholds_are_set_on_the_line_as_anywhere(own: Path) -> None:
    """Without PyTorch: a confidence, three verdicts, a number by hand, each a version."""
    child(
        """
from blemish import Inspector

with Inspector.changing(sys.argv[1]) as inspector:
    inspector.calibrate(false_alarm_rate=0.2, confidence=0.9, review_rate=0.5)
    inspector.set_threshold(inspector.calibration.threshold + 0.125, note="audit")
""",
        own,
    )
    promised, by_hand = Inspector.load(own).history[-2:]
    assert (promised.promise, by_hand.promise, by_hand.note) == ("confidence", "none", "audit")
    assert promised.threshold is not None
    assert by_hand.threshold == promised.threshold + 0.125


def test_calibrating_anew_leaves_each_template_out(fitted: Inspector, own: Path) -> None:
    """`calibrate` on the line scores the good parts as the original did, one by one."""
    made = Inspector.load(own)
    assert fitted.calibration is not None
    with_pictures = [made.picture(key) for key in read_manifest(own).good]
    made.calibrate(with_pictures, false_alarm_rate=0.05)
    assert made.calibration is not None
    np.testing.assert_array_equal(made.calibration.scores, fitted.calibration.scores)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "float16", "sheets": 5},
        {"selection": "kcenter", "sheets": 3},
        {"augment": ["rotate"], "sheets": 2},
        {"level_weights": (0.0, 1.0, 1.0), "free_weights": (1.0, 0.0, 0.0), "vectors": 500},
        {"level_weights": (1.0, 0.0, 0.5), "average": 3, "sheets": 4},
    ],
    ids=["half", "prototypes", "augmented", "location-free", "averaged"],
)
def test_every_kind_of_template_set_is_updated_alike(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """The same update on both floors gives the same maps, whatever the templates are."""
    detector = HETMM(backbone="filterbank", **options)
    made = Inspector(detector, size=SIZE, device="cpu")
    made.fit([picture(seed) for seed in range(6)])
    made.export(tmp_path / "line")
    exported = Inspector.load(tmp_path / "line")
    np.testing.assert_array_equal(
        exported.inspect(PROBE).anomaly_map, made.inspect(PROBE).anomaly_map
    )
    viewed = made.view.apply(made.read(PROBE))
    _, nearest = made.detector.examined(viewed)
    _, nearest_on_the_line = exported.detector.examined(viewed)
    places = [(0, 0), (41, 20), (63, 63)]
    assert nearest_on_the_line(places) == nearest(places)
    for floor in (made, exported):
        floor.update(add=[picture(70)], remove=[floor.templates[1].id], recalibrate=False)
    np.testing.assert_array_equal(
        exported.inspect(PROBE).anomaly_map, made.inspect(PROBE).anomaly_map
    )
    exported.save(tmp_path / "line")
    again = Inspector.load(tmp_path / "line")
    assert np.array_equal(again.inspect(PROBE).anomaly_map, exported.inspect(PROBE).anomaly_map)


def test_after_many_updates_the_templates_are_written_whole(own: Path) -> None:
    """More steps than are replayed on loading: the set is written again, with equal scores."""
    made = Inspector.load(own)
    for seed in range(100, 134):
        made.update(add=[picture(seed)], recalibrate=False)
    made.save(own)
    assert len(read_manifest(own).steps) < 10
    assert Inspector.load(own).inspect(PROBE).score == made.inspect(PROBE).score


@pytest.fixture(scope="module")
def trained() -> Inspector:
    """A small TFA-Net, calibrated; tests leave it as it is."""
    pytest.importorskip("torch", reason="TFA-Net is trained with blemish[train]")

    network = TFANet(
        dim=32, depth=1, heads=2, fdrm_dim=16, fdrm_depth=1, fdrm_heads=2, grid=16, epochs=2,
        backbone="filterbank",
    )  # fmt: skip
    made = Inspector(network, size=SIZE, device="cpu").fit([picture(s) for s in range(10)])
    return made.calibrate([picture(s) for s in range(20, 40)], false_alarm_rate=0.05)


@pytest.fixture(scope="module")
def network_line(trained: Inspector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That network exported."""
    folder = tmp_path_factory.mktemp("network") / "line.blemish"
    trained.export(folder, images=[picture(s) for s in range(40, 44)])
    return folder


def test_tfanet_is_one_graph(trained: Inspector, network_line: Path) -> None:
    """A trained network's graph gives its scores; it cannot be updated or trained, and says so."""
    exported = Inspector.load(network_line)
    one, other = trained.inspect(PROBE), exported.inspect(PROBE)
    assert other.score == pytest.approx(one.score, rel=1e-3)
    assert other.verdict == one.verdict
    graphs = read_manifest(network_line).graphs
    assert graphs is not None
    assert graphs.parts == {"network": "network.onnx"}
    assert graphs.parity is not None
    assert 0 < graphs.parity.relative < 1e-4
    with pytest.raises(ParameterError, match="cannot be updated"):
        exported.update(add=[picture(7)])
    with pytest.raises(ParameterError, match="cannot be trained"):
        exported.detector.fit([PROBE])


def test_tfanet_runs_without_pytorch(
    trained: Inspector, network_line: Path, tmp_path: Path
) -> None:
    """As exported it inspects and is calibrated; as trained the sentence says to export it."""
    trained.save(tmp_path / "trained.blemish")
    code = """
import numpy as np
from blemish import Inspector
from blemish.errors import MissingExtraError
from blemish.demo.parts import render

line, trained = sys.argv[1:]
made = Inspector.load(line)
print(made.inspect(render(50, "missing", size=64).image).score.hex())
made.calibrate([render(s, None, size=64).image for s in range(60, 70)], false_alarm_rate=0.2)
print(made.calibration.false_alarm_rate)
try:
    Inspector.load(trained)
except MissingExtraError as error:
    print(error)
"""
    score, rate, said = child(code, network_line, tmp_path / "trained.blemish").splitlines()
    # The child's picture is of 8 bits, as that of the test is too.
    assert float.fromhex(score) == pytest.approx(trained.inspect(PROBE).score, rel=1e-3)
    assert float(rate) == 0.2
    assert "needs PyTorch" in said
    assert "blemish export PART.blemish" in said


def test_past_the_tolerance_nothing_is_written(fitted: Inspector, tmp_path: Path) -> None:
    """Maps that differ by more than allowed stop the export, with the difference told."""
    with pytest.raises(ExportError, match="more than the tolerance of 1e-12"):
        fitted.export(tmp_path / "line", precision="int8", tolerance=1e-12)
    assert not (tmp_path / "line").exists()


def test_another_verdict_stops_an_export(
    fitted: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that flips is an error that names the image and both scores."""
    told = iter(["pass", "fail"])

    def judgement(verdict: Any) -> Judgement:
        return Judgement(None, None, None, verdict, None)

    monkeypatch.setattr(parity, "judge", lambda *_: judgement(next(told, "pass")))
    monkeypatch.setattr(parity, "ROUNDING", -1.0)  # though both scores are the same
    with pytest.raises(ExportError, match="another verdict"):
        fitted.export(tmp_path / "line")
    assert not (tmp_path / "line").exists()


def test_parity_and_test_vectors_are_in_the_bundle(line: Path) -> None:
    """The manifest tells the parity, and the vectors' maps and scores come out of their images."""
    manifest = read_manifest(line)
    assert manifest.graphs is not None
    assert manifest.graphs.parity is not None
    assert manifest.graphs.parity.images == 20
    assert manifest.graphs.parity.largest == manifest.graphs.parity.relative == 0
    assert manifest.graphs.parity.flips == 0
    vectors = read_part(line, manifest, VECTORS)
    made = Inspector.load(line)
    for index in range(3):
        result = made.inspect(vectors[f"image{index}"])
        np.testing.assert_allclose(result.anomaly_map, vectors[f"map{index}"], atol=1e-6)
        assert result.score == pytest.approx(float(vectors[f"score{index}"][0]), abs=1e-6)


def test_a_converted_bundle_is_not_exported_again(
    fitted: Inspector, line: Path, tmp_path: Path
) -> None:
    """From int8 nothing can be had back: the sentence names the way. A mere copy can go on."""
    fitted.export(tmp_path / "small", precision="int8")
    for precision in ("float32", "int8"):
        with pytest.raises(ExportError, match="export the bundle that it was made from"):
            Inspector.load(tmp_path / "small").export(tmp_path / "again", precision=precision)
        assert not (tmp_path / "again").exists()
    Inspector.load(line).export(tmp_path / "copy")
    assert Inspector.load(tmp_path / "copy").inspect(PROBE).score == fitted.inspect(PROBE).score


def test_templates_past_the_memory_allowed_are_on_disk(fitted: Inspector, line: Path) -> None:
    """A limit that the templates do not fit in is kept by a scratch file, with equal scores."""
    small = Inspector.load(line, memory=1)
    assert small.inspect(PROBE).score == fitted.inspect(PROBE).score


def test_a_changed_graph_is_refused_by_name(own: Path) -> None:
    """One flipped byte in a graph's file is found by its checksum."""
    file = own / read_manifest(own).files["match.onnx"].file
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=file.name):
        Inspector.load(own)


READER = """
from blemish import Inspector
import numpy as np
bundle, image = sys.argv[1:]
for _ in range(400):
    inspector = Inspector.load(bundle)
    print(inspector.version, inspector.inspect(image).score.hex(), flush=True)
    if inspector.version == 12:
        break
"""


def test_ten_updates_while_another_process_inspects(own: Path, tmp_path: Path) -> None:
    """A reader in a loop sees each version whole: its score is that version's, to the last bit."""
    import cv2

    image = tmp_path / "probe.png"
    cv2.imwrite(str(image), (PROBE[..., ::-1] * 255).astype(np.uint8))
    made = Inspector.load(own)
    wanted = {1: made.inspect(image).score}
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH + READER, str(own), str(image)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "BLEMISH_THREADS": "1"},
    ) as reader:
        assert reader.stdout is not None
        seen = [reader.stdout.readline().split()]
        for seed in range(200, 210):
            made.update(add=[picture(seed)], recalibrate=False)
            made.save(own)
            wanted[made.version] = made.inspect(image).score
        made.rollback(1)
        made.save(own)
        wanted[made.version] = made.inspect(image).score
        seen += [line.split() for line in reader.stdout]
    assert wanted[12] == wanted[1]
    assert seen[-1][0] == "12"
    assert all(float.fromhex(score) == wanted[int(version)] for version, score in seen)


def test_the_command_exports_and_tells(
    cli: Callable[..., Outcome], bundle: Path, parts: Path, tmp_path: Path
) -> None:
    """`blemish export` prints parity and AUROC as JSON, and the new bundle inspects."""
    line = tmp_path / "line.blemish"
    done = cli("export", bundle, "-o", line, "--test", parts / "test", "--json", "-")
    assert done.status == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["runtime"] == "onnxruntime"
    assert told["flips"] == []
    assert told["relative_difference"] < told["tolerance"] == 1e-3
    assert told["test"]["flips"] == []
    assert told["test"]["image_auroc"]["graphs"] == told["test"]["image_auroc"]["original"]
    assert cli("inspect", line, probes(parts)[0]).status in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "tensorrt"), "must be one of onnx, openvino"),
        (("--precision", "int4"), "must be float32, bfloat16, int8"),
        (("--precision", "bfloat16"), "use --to openvino"),
        (("--tolerance", "0"), "above 0"),
    ],
)
def test_what_cannot_be_exported_is_said(
    cli: Callable[..., Outcome], bundle: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    """A wrong option is one sentence and exit status 2, and leaves nothing behind."""
    done = cli("export", bundle, "-o", tmp_path / "line", *arguments)
    assert done.status == 2
    assert told in done.stderr
    assert not (tmp_path / "line").exists()
