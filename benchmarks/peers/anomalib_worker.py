"""anomalib's side of one job: `Engine.fit` on a `Folder`, then its raw maps and scores.

Runs in anomalib's own environment. Thresholds and normalisation are off, as they would clip scores;
weights come from a file, since its constructors would ask a hub. Nothing of anomalib is changed.
"""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from anomalib.data import Folder
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.models import Dfm, Padim, Patchcore
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from lightning import seed_everything
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize
from work import (
    IN_PROCESS,
    SIZE,
    Job,
    Maps,
    Predict,
    from_command_line,
    leave,
    peak_rss_mb,
    score_all,
)

MODELS = {"Patchcore": Patchcore, "Padim": Padim, "Dfm": Dfm}
# The Caffe variant strides on the first 1x1 convolution of a stage; timm's on the 3x3.
NETWORKS = {
    "resnet18.tv_in1k": "resnet18",
    "resnet50.caffe_in1k": "resnet50",
    "efficientnet_lite0": "tf_efficientnet_lite0",
}
EMBEDDED = {"efficientnet_lite0"}  # its file numbers the tensors; images are from -1 to 1
STRIDE_IN_FIRST = {"resnet50.caffe_in1k"}
TORCH, OPENVINO = "torch inferencer", "openvino inferencer"
BATCH = 32  # anomalib's default


def main() -> None:
    warnings.filterwarnings("ignore")
    job = from_command_line()
    seed_everything(job.seed)
    if job.way == IN_PROCESS:
        fit_and_score(job)
    else:
        serve(job)


def fit_and_score(job: Job) -> None:
    """Fit as its users do, score in the same process, then export where it was asked for."""
    model = build(job)
    data = training_data(job)
    engine = Engine(
        default_root_dir=Path(job.folder) / "engine",
        accelerator="cpu",
        enable_progress_bar=False,
        limit_val_batches=0,  # no validation images: nothing but the good ones is handed over
    )
    started = time.perf_counter()
    engine.fit(model, datamodule=data)
    fit_seconds = time.perf_counter() - started
    if len(data.train_data) != len(job.train):
        raise SystemExit(f"anomalib took {len(data.train_data)} of {len(job.train)} good images")
    result = score_all(job, in_process(model.eval()))
    peak = peak_rss_mb()
    notes = export(model, job.exports)
    shutil.rmtree(Path(job.folder) / "engine", ignore_errors=True)
    leave(job, {**result, "fit_seconds": fit_seconds, "peak_rss_mb": peak, "notes": notes})


def build(job: Job) -> Any:
    """The model with the weights of the file in its backbone; raw outputs."""
    raw = PostProcessor(enable_normalization=False, enable_thresholding=False)
    seen: Any = True  # its own: resized, normalised by ImageNet's mean and deviation
    if job.backbone in EMBEDDED:
        seen = PreProcessor(Compose([Resize((SIZE, SIZE)), Normalize([0.5] * 3, [0.5] * 3)]))
    model = MODELS[job.method](
        backbone=NETWORKS[job.backbone],
        pre_trained=False,
        pre_processor=seen,
        post_processor=raw,
        evaluator=False,
        visualizer=False,
        **job.options,
    )
    transform = model.pre_processor.transform
    if [list(step.size) for step in transform.transforms if hasattr(step, "size")] != [[SIZE] * 2]:
        raise SystemExit(f"{job.method} does not look at {SIZE} x {SIZE}: {transform}")
    network = model.model.feature_extractor.feature_extractor
    if job.weights is None:
        raise SystemExit(f"{job.method} needs a weights file")
    load_weights(network, job.weights, job.backbone)
    if job.backbone in STRIDE_IN_FIRST:
        stride_in_first_convolution(network)
    return model


def load_weights(network: nn.Module, path: str, backbone: str) -> None:
    """Copy in every tensor that the network has; one that is missing in the file is an error."""
    file = load_file(path)
    if backbone in EMBEDDED:  # timm has the same tensors in the same order
        names = timm.create_model(NETWORKS[backbone], pretrained=False).state_dict()
        file = dict(zip(names, (file[key] for key in sorted(file)), strict=True))
    needed = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in file]
    if missing:
        raise SystemExit(f"{path} lacks {len(missing)} tensors, the first is {missing[0]}")
    network.load_state_dict({key: file[key].float() for key in needed}, strict=False)


def stride_in_first_convolution(network: nn.Module) -> None:
    """Move stride 2 of each stage to its first convolution, where these weights had it."""
    for name, stage in network.named_children():
        if name in ("layer2", "layer3", "layer4"):
            stage[0].conv1.stride = (2, 2)
            stage[0].conv2.stride = (1, 1)


def training_data(job: Job) -> Folder:
    """A folder of links to exactly the good images of the job."""
    folder = Path(job.folder) / "train"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sizes = set()
    for index, path in enumerate(job.train):
        (folder / f"{index:05d}{Path(path).suffix}").symlink_to(path)
        with Image.open(path) as image:
            sizes.add(image.size)
    return Folder(
        name="part",
        normal_dir=folder,
        # A batch of mixed sizes is first enlarged to its largest image: one at a time avoids that.
        train_batch_size=BATCH if len(sizes) == 1 else 1,
        num_workers=0,
        test_split_mode="none",
        val_split_mode="none",
        seed=job.seed,
    )


def in_process(model: Any) -> Predict:
    """What the engine does with one image: antialiased resize, network, raw outputs."""

    @torch.inference_mode()
    def predict(path: str) -> tuple[Maps, float]:
        image = read_image(path, as_tensor=True)
        batch = model.pre_processor.transform(image[None])
        return unpack(model.model(batch))

    return predict


def export(model: Any, exports: dict[str, str]) -> list[str]:
    """Export for each inferencer asked for; what cannot be exported is said, not fatal."""
    notes = []
    for way, folder in exports.items():
        try:
            if way == TORCH:
                model.to_torch(folder)
            elif way == OPENVINO:
                # By default PatchCore's export always takes two images: here one, of any size.
                shapes = ({2: torch.export.Dim("height"), 3: torch.export.Dim("width")},)
                model.to_openvino(folder, onnx_kwargs={"dynamic_shapes": shapes})
        except Exception as error:
            notes.append(f"{way}: export failed: {type(error).__name__}: {first_line(error)}")
    return notes


def serve(job: Job) -> None:
    """Load an export with anomalib's own inferencer, in a fresh process, and score."""
    predict, load_seconds = load_export(job.way, job.exports[job.way], job.threads)
    result = score_all(job, predict)
    leave(job, {**result, "load_seconds": load_seconds, "peak_rss_mb": peak_rss_mb()})


def load_export(way: str, folder: str, threads: int) -> tuple[Predict, float]:
    """What anomalib's own inferencer does with one file, and the seconds that loading took."""
    from anomalib.deploy import OpenVINOInferencer, TorchInferencer

    started = time.perf_counter()
    inferencer: Any
    if way == TORCH:
        inferencer = TorchInferencer(only(Path(folder), "*.pt"), device="cpu")
    else:
        config = {"INFERENCE_NUM_THREADS": threads}
        inferencer = OpenVINOInferencer(only(Path(folder), "*.xml"), device="CPU", config=config)
    load_seconds = time.perf_counter() - started

    @torch.inference_mode()
    def predict(path: str) -> tuple[Maps, float]:
        return unpack(inferencer.predict(path))

    return predict, load_seconds


def only(folder: Path, pattern: str) -> Path:
    """The one file below `folder` that fits."""
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} has {len(found)} files {pattern}, expected one: export failed")
    return found[0]


def unpack(prediction: Any) -> tuple[Maps, float]:
    """Map [H, W] and score of a batch of one, from tensors or arrays."""
    anomaly_map = np.asarray(prediction.anomaly_map, dtype=np.float32)
    score = np.asarray(prediction.pred_score, dtype=np.float64)
    return anomaly_map.reshape(anomaly_map.shape[-2:]), float(score.reshape(()))


def first_line(error: Exception) -> str:
    """The first line of an error's text, at most 200 characters."""
    return (str(error).strip().splitlines() or [""])[0][:200]


if __name__ == "__main__":
    main()
