"""Exports in INT8 and for OpenVINO: the same verdicts, thresholds set again, updates that work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from blemish.bundle import read_manifest
from blemish.detectors import HETMM
from blemish.errors import ExportError, MissingExtraError, ParameterError
from blemish.evaluation.metrics import auroc
from blemish.export import quantize
from blemish.export.parity import TOLERANCES
from blemish.export.quantize import quantized
from blemish.graphs import openvino
from blemish.graphs.sessions import OnnxSession
from blemish.inspector import Inspector
from common import SIZE, Outcome, picture

PROBE = picture(50, "missing")
TINY: dict[str, Any] = {
    "dim": 32, "depth": 1, "heads": 2, "fdrm_dim": 16, "fdrm_depth": 1, "fdrm_heads": 2,
    "grid": 16, "epochs": 2, "backbone": "filterbank",
}  # fmt: skip


@pytest.fixture
def needs_openvino() -> None:
    """Skips where OpenVINO is not installed."""
    pytest.importorskip("openvino", reason="blemish[openvino] is not installed")


def image_auroc(inspector: Inspector, parts: Path) -> float:
    """Image AUROC on the test parts."""
    paths = sorted((parts / "test").glob("*/*.png"))
    labels = [int(path.parent.name != "good") for path in paths]
    return auroc(labels, [inspector.inspect(path).score for path in paths])


@pytest.mark.usefixtures("needs_openvino")
def test_openvino_gives_the_same_verdicts_and_is_updated(
    fitted: Inspector, parts: Path, tmp_path: Path
) -> None:
    """The network runs in OpenVINO, matching in ONNX Runtime; an update needs no new graph."""
    fitted.export(tmp_path / "line", to="openvino")
    graphs = read_manifest(tmp_path / "line").graphs
    assert graphs is not None
    assert graphs.parts == {
        "features": "features.xml",
        "features-weights": "features.bin",
        "match": "match.onnx",
        "map": "map.onnx",
    }
    made = Inspector.load(tmp_path / "line")
    for path in sorted((parts / "test").glob("*/*.png")):
        one, other = fitted.inspect(path), made.inspect(path)
        assert other.verdict == one.verdict
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, atol=1e-5)
    made.update(add=[PROBE], recalibrate=False)
    assert made.inspect(PROBE).score == pytest.approx(0, abs=1e-5)
    made.save(tmp_path / "line")
    assert Inspector.load(tmp_path / "line").inspect(PROBE).score == made.inspect(PROBE).score


@pytest.mark.usefixtures("needs_openvino")
def test_a_trained_network_runs_in_openvino(trained: Inspector, tmp_path: Path) -> None:
    """TFA-Net as OpenVINO's graph gives PyTorch's maps."""
    made = trained
    shown = [picture(seed) for seed in range(40, 43)]
    made.export(tmp_path / "line", to="openvino", images=shown)
    wanted = made.inspect(PROBE).anomaly_map
    found = Inspector.load(tmp_path / "line").inspect(PROBE).anomaly_map
    np.testing.assert_allclose(found, wanted, atol=1e-3 * wanted.max())


@pytest.mark.usefixtures("needs_openvino")
def test_without_openvino_both_sides_say_what_to_install(
    fitted: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exporting for it, and loading such a bundle, name the extra."""
    fitted.export(tmp_path / "line", to="openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"blemish\[openvino\]"):
        Inspector.load(tmp_path / "line")
    with pytest.raises(MissingExtraError, match=r"blemish\[openvino\]"):
        fitted.export(tmp_path / "other", to="openvino")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.usefixtures("needs_openvino")
def test_int8_is_calibrated_again_and_keeps_the_auroc(
    fitted: Inspector, parts: Path, tmp_path: Path, runtime: str
) -> None:
    """Scores move a little, the threshold with them, and flawed parts stay above good ones."""
    done = fitted.export(tmp_path / "line", to=runtime, precision="int8")  # type: ignore[arg-type]
    assert done.recalibrated
    assert 0 < done.agreement.relative < TOLERANCES["int8"] / 2
    made = Inspector.load(tmp_path / "line")
    assert made.calibration is not None
    assert fitted.calibration is not None
    assert made.calibration.false_alarm_rate == fitted.calibration.false_alarm_rate
    assert made.calibration.threshold != fitted.calibration.threshold
    assert image_auroc(made, parts) >= image_auroc(fitted, parts) - 0.05
    made.update(add=[PROBE])
    assert made.inspect(PROBE).score == pytest.approx(0, abs=1e-5), "its sheet is INT8's as well"


def test_convolutions_are_in_whole_numbers(fitted: Inspector, tmp_path: Path) -> None:
    """Every convolution reads weights of 8 bits; matching is as it was, and files are smaller."""
    fitted.export(tmp_path / "float32")
    fitted.export(tmp_path / "int8", precision="int8")
    graphs = {}
    for name in ("float32", "int8"):
        manifest = read_manifest(tmp_path / name)
        for part in ("features.onnx", "match.onnx", "map.onnx"):
            graphs[name, part] = (tmp_path / name / manifest.files[part].file).read_bytes()
    for part in ("match.onnx", "map.onnx"):
        assert graphs["int8", part] == graphs["float32", part]
    graph = onnx.load_from_string(graphs["int8", "features.onnx"]).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    assert all(made_by[node.input[1]] == "DequantizeLinear" for node in convolutions)


def test_only_learned_products_of_a_trained_network_are_in_whole_numbers(
    trained: Inspector, good_images: list[np.ndarray]
) -> None:
    """Linear layers are; attention, resizing and smoothing are not, and maps stay close."""
    from blemish.train.tfanet.export import network_graph

    whole = network_graph(trained.detector)
    small = quantized("network", whole, good_images)
    nodes = onnx.load_from_string(small).graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    linear = [node for node in nodes if node.op_type == "Gemm"]
    assert len(linear) == 2 + 2 * 4 + 1  # embedding, head, two blocks of four, TFAM to FDRM
    assert all(made_by[node.input[1]] == "DequantizeLinear" for node in linear)
    products = [node for node in nodes if node.op_type == "MatMul"]
    assert products
    assert all("DequantizeLinear" not in map(made_by.get, node.input) for node in products)
    feed = {"image": PROBE[None]}
    one, other = (OnnxSession(g, "graph").run(feed)["anomaly_map"] for g in (whole, small))
    assert 0 < np.abs(one - other).max() < 0.25 * one.max()


def saved(made: Inspector, good: list[np.ndarray], folder: Path) -> Inspector:
    """An inspector that has learned, calibrated at 0.4, saved and loaded."""
    made.fit(good).calibrate(false_alarm_rate=0.4).save(folder)
    return Inspector.load(folder, device="cpu")


def small_network() -> Inspector:
    """A TFA-Net that is trained in a second."""
    pytest.importorskip("torch", reason="TFA-Net is trained with blemish[train]")
    from blemish.train.tfanet import TFANet

    return Inspector(TFANet(**TINY), size=SIZE, device="cpu")


@pytest.fixture(scope="module")
def trained(good_images: list[np.ndarray]) -> Inspector:
    """One that has been; tests leave it as it is."""
    return small_network().fit(good_images)


def bare() -> Inspector:
    """A HETMM that keeps no pictures."""
    return Inspector(
        HETMM(sheets=3, backbone="filterbank"), size=SIZE, device="cpu", keep_pictures=False
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [(small_network, "kept none, as tfanet never does; give"), (bare, "kept none; give")],
)
def test_int8_without_kept_pictures_needs_images(
    make: Callable[[], Inspector],
    said: str,
    parts: Path,
    good_images: list[np.ndarray],
    tmp_path: Path,
    cli: Callable[..., Outcome],
) -> None:
    """One sentence asks for them; scaled on them it is an export that waits for its threshold."""
    saved(make(), good_images, tmp_path / "part")
    command = ("export", tmp_path / "part", "-o", tmp_path / "line", "--precision", "int8")
    refused = cli(*command)
    assert (refused.status, len(refused.stderr.splitlines())) == (2, 1)
    assert f"{said} some good parts with --images DIR" in refused.stderr
    assert not (tmp_path / "line").exists()
    good = parts / "train" / "good"
    done = cli(*command, "--images", good)
    assert done.status == 0, done.stderr
    # The old threshold is for other scores: none is better than one that promises nothing.
    assert "threshold  none, so that all is review" in done.stderr
    assert "another verdict" not in done.stderr
    assert Inspector.load(tmp_path / "line").inspect(PROBE).verdict == "review"
    assert cli("calibrate", tmp_path / "line", good, "--false-alarm-rate", 0.1).status == 0
    made = Inspector.load(tmp_path / "line")
    assert made.calibration is not None
    assert 0 <= made.calibration.rejected <= 2
    assert read_manifest(tmp_path / "line").graphs.precision == "int8"  # type: ignore[union-attr]


def test_float32_keeps_its_threshold_without_pictures(
    good_images: list[np.ndarray], tmp_path: Path
) -> None:
    """Its scores are the same ones, so nothing has to be set again."""
    made = saved(small_network(), good_images, tmp_path / "part")
    done = made.export(tmp_path / "line", images=good_images)
    assert not done.recalibrated
    assert Inspector.load(tmp_path / "line").calibration == made.calibration


def test_bfloat16_is_not_onnx_runtimes(fitted: Inspector, tmp_path: Path) -> None:
    """ONNX Runtime's processor kernels lack it: the sentence names what there is."""
    with pytest.raises(ExportError, match="use --to openvino, or int8 or float32"):
        fitted.export(tmp_path / "line", precision="bfloat16")
    assert not (tmp_path / "line").exists()


@pytest.mark.usefixtures("needs_openvino")
def test_bfloat16_is_refused_where_the_processor_lacks_it(
    fitted: Inspector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO would take the wish and compute in float32: refused, and nothing is written."""
    monkeypatch.setattr(openvino, "has_bfloat16", lambda core: False)
    with pytest.raises(ParameterError, match="which this processor does not have"):
        fitted.export(tmp_path / "line", to="openvino", precision="bfloat16")
    assert not (tmp_path / "line").exists()


def test_steps_need_images() -> None:
    """The graph's own function refuses none at all."""
    with pytest.raises(ExportError, match="there are none"):
        quantized("features", b"", [])


def test_steps_are_set_on_images_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many are read, from the first to the last."""
    monkeypatch.setattr(quantize, "MOST_IMAGES", 3)
    reader = quantize._Good([np.full((2, 2, 3), value, np.float32) for value in range(8)])
    seen = []
    while (feed := reader.get_next()) is not None:
        assert feed["image"].shape == (1, 2, 2, 3)
        seen.append(float(feed["image"][0, 0, 0, 0]))
    assert seen == [0, 3, 6]


@pytest.mark.parametrize("wrong", [{"to": "onnx"}, {"precision": "int4"}])
def test_a_wrong_name_is_refused_with_those_there_are(
    fitted: Inspector, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """A wrong name is refused with those there are, and nothing is written."""
    with pytest.raises(ExportError, match=r"give one of (onnxruntime|float32), "):
        fitted.export(tmp_path / "line", **wrong)
    assert not (tmp_path / "line").exists()
