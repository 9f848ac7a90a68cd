"""TFA-Net's training: the same run gives the same weights, whatever happens on the way."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blemish.errors import BlemishError, NoImagesError, ParameterError
from blemish.train.tfanet.checkpoint import NAME
from blemish.train.tfanet.presets import TFANetConfig
from blemish.train.tfanet.training import (
    RunOptions,
    learning_rate,
    step_count,
    step_masks,
    steps,
    train,
    training_precision,
)

TINY = TFANetConfig(
    dim=16,
    depth=1,
    heads=2,
    fdrm_dim=8,
    fdrm_depth=1,
    fdrm_heads=2,
    grid=8,
    epochs=3,
    batch_size=4,
    mask_ratio=0.25,
    schedule="cosine",
    warmup=0.2,
    precision="fp32",
)
IMAGES = 10  # three steps an epoch, the last with two images


class RandomFeatures:
    """Features drawn from a seed: all that training asks for."""

    def __init__(self, count: int = IMAGES, value: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(1)
        self.channels = 6
        self.rows = value * torch.rand(count, 6, 8, 8, generator=draw)
        self.asked: list[list[int]] = []

    def images(self, positions: list[int]) -> Tensor:
        self.asked.append(list(positions))
        return self.rows[list(positions)]

    def template(self) -> Tensor | None:
        return self.rows[:1]


class Stopped(Exception):
    """What a test throws to break off a run."""


def weights(config: TFANetConfig = TINY, **options: object) -> dict[str, Tensor]:
    """The weights a run ends with."""
    network = train(RandomFeatures(), IMAGES, config, **options)  # type: ignore[arg-type]
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two networks are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    """A longer run ends with a smaller loss than it began with."""
    config = dataclasses.replace(TINY, epochs=30, lr=1e-2, mask_ratio=0.0)
    train(RandomFeatures(), IMAGES, config, options=RunOptions(tmp_path, "run"))
    with (tmp_path / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_seed_gives_one_network(precision: str) -> None:
    """The same seed gives the same weights to the bit, another seed others."""
    config = dataclasses.replace(TINY, precision=precision)
    torch.manual_seed(3)
    first = weights(config)
    torch.manual_seed(4)  # the global state must not matter
    assert same(first, weights(config))
    assert not same(first, weights(dataclasses.replace(config, seed=1)))


def test_every_epoch_takes_every_image_once() -> None:
    """Each epoch is a permutation of all images, the last batch kept, and epochs differ."""
    features = RandomFeatures()
    train(features, IMAGES, TINY)
    epochs = [list(chain(*features.asked[start : start + 3])) for start in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(IMAGES))] * 3
    assert epochs[0] != epochs[1]
    assert [len(batch) for batch in features.asked[:3]] == [4, 4, 2]


@pytest.mark.parametrize("start", range(10))
def test_steps_do_not_depend_on_where_a_run_starts(start: int) -> None:
    """The steps from any start are those that the whole run takes from there."""
    assert list(steps(IMAGES, TINY, start)) == list(steps(IMAGES, TINY))[start:]


def test_masks_follow_from_seed_and_step() -> None:
    """A step's mask can be drawn again, and is not that of the next step."""
    assert torch.equal(step_masks(4, 64, 5, TINY), step_masks(4, 64, 5, TINY))
    assert not torch.equal(step_masks(4, 64, 5, TINY), step_masks(4, 64, 6, TINY))
    assert step_masks(4, 64, 5, dataclasses.replace(TINY, mask_ratio=0.0)) is None


def test_learning_rate_rises_and_falls() -> None:
    """Warm-up ends at the peak rate; the cosine goes on down to nearly nothing."""
    rates = [learning_rate(step, 100, TINY) for step in range(100)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[19] == rates[20] == TINY.lr
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 1e-3 * TINY.lr
    constant = dataclasses.replace(TINY, schedule="constant", warmup=0.0)
    assert {learning_rate(step, 100, constant) for step in range(100)} == {TINY.lr}


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path, stop: int) -> None:
    """Resuming after any step gives the weights of the run that was not stopped."""

    def break_off(stage: str, done: int, total: int) -> None:
        if done == stop and stage != "training":
            raise Stopped

    options = RunOptions(tmp_path, "run", checkpoint_seconds=0.0)
    with pytest.raises(Stopped):
        weights(options=options, progress=break_off)
    assert same(weights(options=options), weights())
    with (tmp_path / "training.csv").open() as file:
        logged = [int(row["step"]) for row in csv.DictReader(file)]
    assert logged == list(range(1, step_count(IMAGES, TINY) + 1))


CHILD = """
import sys, time
from pathlib import Path
from tests.tfanet.test_training import TINY, IMAGES, RandomFeatures
from blemish.train.tfanet.training import RunOptions, train

def slow(stage, done, total):
    print(done, flush=True)
    time.sleep(0.05)

train(RandomFeatures(), IMAGES, TINY, progress=slow,
      options=RunOptions(Path(sys.argv[1]), "run", checkpoint_seconds=0.0))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_killed_process_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """After kill -9 in the middle, the next run gives the weights of one never killed."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    )
    with child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 4:
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    seen: list[int] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the child: sums in another order differ in the last bit
    try:
        resumed = weights(
            options=RunOptions(tmp_path, "run"), progress=lambda _, done, __: seen.append(done)
        )
        assert 0 < seen[0] < step_count(IMAGES, TINY)
        assert same(resumed, weights())
    finally:
        torch.set_num_threads(threads)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    """With a checkpoint of the last step there is nothing left to learn."""
    options = RunOptions(tmp_path, "run")
    first = weights(options=options)
    features = RandomFeatures()
    network = train(features, IMAGES, TINY, options=options)
    assert features.asked == []
    assert same(first, dict(network.state_dict()))


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    """A checkpoint with other options is named, not overwritten."""
    weights(options=RunOptions(tmp_path, "one"))
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ParameterError, match="belongs to another run"):
        weights(options=RunOptions(tmp_path, "two"))
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: bytes | None) -> None:
    """A checkpoint that is empty, foreign or cut off gives one sentence with the remedy."""
    options = RunOptions(tmp_path, "run")
    weights(options=options)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(ParameterError, match=r"damaged.*delete it"):
        weights(options=options)


def test_a_checkpoint_leaves_no_other_file(tmp_path: Path) -> None:
    """After a run its folder holds the checkpoint and the log, no temporary file."""
    weights(options=RunOptions(tmp_path, "run", checkpoint_seconds=0.0))
    kept = {path.name for path in tmp_path.iterdir() if not path.name.startswith("events.")}
    assert kept == {NAME, "training.csv"}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """The error names the step and what to try, and no checkpoint keeps the ruin."""
    features = RandomFeatures()
    features.rows[:, 0, 0, 0] = float("inf")
    options = RunOptions(tmp_path, "run", checkpoint_seconds=0.0)
    with pytest.raises(BlemishError, match=r"step 1 \(epoch 1\).*smaller lr"):
        train(features, IMAGES, TINY, options=options)
    assert not (tmp_path / NAME).exists()


def test_no_images_is_an_error() -> None:
    """Training on nothing says so."""
    with pytest.raises(NoImagesError, match="no images"):
        train(RandomFeatures(), 0, TINY)


def test_watching_changes_nothing() -> None:
    """Snapshots come every so many epochs and leave the run as it was."""
    epochs: list[int] = []

    def watch(epoch: int, network: torch.nn.Module) -> None:
        assert not network.training
        epochs.append(epoch)
        torch.rand(7)  # a careless watcher

    config = dataclasses.replace(TINY, epochs=4, snapshot_every=2)
    watched = weights(config, watch=watch)
    assert epochs == [2, 4]
    assert same(watched, weights(config))


def test_progress_reaches_the_total_and_tells_the_loss() -> None:
    """Progress starts at 0, ends at the number of steps, and names the loss."""
    said: list[tuple[str, int, int]] = []
    weights(progress=lambda *report: said.append(report))
    assert said[0] == ("training", 0, 9)
    assert said[-1][1:] == (9, 9)
    assert "loss" in said[-1][0]


def test_precision_names_follow_the_option() -> None:
    """fp32 and bf16 are taken at their word; auto is one of the two."""
    cpu = torch.device("cpu")
    asked = {name: dataclasses.replace(TINY, precision=name) for name in ("fp32", "bf16", "auto")}
    assert training_precision(asked["fp32"], cpu) == "32-true"
    assert training_precision(asked["bf16"], cpu) == "bf16-mixed"
    assert training_precision(asked["auto"], cpu) in ("32-true", "bf16-mixed")


def test_devices_below_one_are_refused() -> None:
    """No device is no place to train."""
    with pytest.raises(ParameterError, match="devices is 0"):
        weights(options=RunOptions(devices=0))
