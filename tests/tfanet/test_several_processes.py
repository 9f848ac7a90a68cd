"""TFA-Net trained by two real processes on 127.0.0.1: the same run as one, but for rounding.

Tolerance: float32 sums in another order. What a network computes is compared, not its weights: a
key's bias changes no attention, so its gradient is rounding alone, which AdamW makes a whole step.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tfanet.test_training import TINY, RandomFeatures, Stopped
from torch import Tensor

from blemish.inspector import Inspector
from blemish.train.tfanet import TFANet
from blemish.train.tfanet.checkpoint import NAME
from blemish.train.tfanet.network import build_network
from blemish.train.tfanet.training import RunOptions, step_count, train

RTOL = 1e-5  # of each step's loss
ATOL = 1e-4  # of reconstructed features of about 1
CONFIG = dataclasses.replace(TINY, mask_ratio="random")
# Batches of 4: a last one of three rows for two processes, and one of a single row.
COUNTS = (11, 9)
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two devices need two processor cores"),
]

# The second process has folders of its own, which nothing may be written into.
SCRIPT = """
import os, shutil, sys
from pathlib import Path
from blemish.train.tfanet.training import RunOptions, train
from tests.tfanet.test_several_processes import CONFIG, RandomFeatures

def keep(stage, done, total):
    print(folder.name, done, flush=True)
    if done == total and not (folder / "middle").exists():  # the checkpoint is of an epoch before
        (folder / "middle").mkdir()
        shutil.copy(folder / "checkpoint.safetensors", folder / "middle")

for folder in map(Path, sys.argv[1:]):
    own = folder
    if os.environ.get("LOCAL_RANK", "0") != "0":
        own = folder.with_name(folder.name + "-second")
        if folder.exists():
            own.mkdir()
            shutil.copy(folder / "checkpoint.safetensors", own)
    options = RunOptions(own, "1f", checkpoint_seconds=0.0, devices=2)
    count = int(folder.name)
    train(RandomFeatures(count), count, CONFIG, options=options, progress=keep)
"""

BLEMISH = "from blemish.cli import main\nmain()\n"
RATE = 0.2
NETWORK: dict[str, Any] = {
    "dim": 16, "depth": 1, "heads": 2, "fdrm_dim": 8, "fdrm_depth": 1, "fdrm_heads": 2, "grid": 8,
    "epochs": 2, "precision": "fp32", "calibration_share": 0.3,
}  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """The children's variables: one thread each, and this checkout before what is installed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def two(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A script that starts its second process itself, run to its end."""
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment()
    )


def losses(folder: Path) -> list[float]:
    """The logged loss of every step."""
    with (folder / "training.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module are kept."""
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def script(folder: Path) -> Path:
    """The script of two processes."""
    path = folder / "train_twice.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def by_one(folder: Path) -> Iterator[dict[int, Path]]:
    """Both runs by one process, on one thread as the two have: the folders by number of images."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {count: folder / "one" / str(count) for count in COUNTS}
    for count, own in found.items():
        train(RandomFeatures(count), count, CONFIG, options=RunOptions(own, "1f"))
    yield found
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def broken_off(folder: Path) -> Path:
    """The run of 11 images by one process, stopped after step 4."""
    own = folder / "broken_off" / "11"

    def break_off(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise Stopped

    options = RunOptions(own, "1f", checkpoint_seconds=0.0)
    with pytest.raises(Stopped):
        train(RandomFeatures(11), 11, CONFIG, options=options, progress=break_off)
    return own


@pytest.fixture(scope="module")
def by_two(folder: Path, script: Path, broken_off: Path) -> dict[int, Path]:
    """Both runs by two processes, which then go on with the one broken off."""
    found = {count: folder / str(count) for count in COUNTS}
    done = two(script, *found.values(), broken_off)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "stdout").write_text(done.stdout)
    return found


def rebuilt(folder: Path) -> Tensor:
    """What the network in a checkpoint makes of five images."""
    stored = load_file(folder / NAME)
    network = build_network(6, CONFIG)
    network.load_state_dict({name: stored[f"network.{name}"] for name in network.state_dict()})
    features = RandomFeatures(5).rows
    with torch.inference_mode():
        return network(features, features[:1])


@pytest.mark.parametrize("count", COUNTS)
def test_two_processes_have_the_loss_curve_of_one(
    count: int, by_one: dict[int, Path], by_two: dict[int, Path]
) -> None:
    """Each step's loss is that of one process with the whole batch; so is what was learned."""
    assert len(losses(by_two[count])) == step_count(count, CONFIG)
    assert losses(by_two[count]) == pytest.approx(losses(by_one[count]), rel=RTOL)
    assert torch.allclose(rebuilt(by_two[count]), rebuilt(by_one[count]), rtol=0, atol=ATOL)
    other = next(number for number in COUNTS if number != count)
    assert not torch.allclose(rebuilt(by_two[count]), rebuilt(by_one[other]), rtol=0, atol=ATOL)


def test_only_the_first_process_writes_and_reports(folder: Path, by_two: dict[int, Path]) -> None:
    """There is one checkpoint and one log, and every report of progress comes once."""
    for own in by_two.values():
        kept = {path.name for path in own.iterdir() if not path.name.startswith("events.")}
        assert kept == {NAME, "training.csv", "middle"}
        assert not own.with_name(f"{own.name}-second").exists()
    lines = (folder / "stdout").read_text().splitlines()
    whole = [f"{count} {done}" for count in COUNTS for done in (0, 3, 6, 9)]
    assert lines == [*whole, "11 4", "11 6", "11 9"]


def test_one_process_goes_on_where_two_stopped(
    by_one: dict[int, Path], by_two: dict[int, Path], tmp_path: Path
) -> None:
    """A checkpoint of two processes is one of one process."""
    shutil.copy(by_two[11] / "middle" / NAME, tmp_path)
    seen: list[int] = []
    options = RunOptions(tmp_path, "1f")
    train(
        RandomFeatures(11), 11, CONFIG,
        options=options, progress=lambda _, done, __: seen.append(done),
    )  # fmt: skip
    assert seen[0] == 6
    assert losses(tmp_path) == pytest.approx(losses(by_one[11])[6:], rel=RTOL)
    assert torch.allclose(rebuilt(tmp_path), rebuilt(by_one[11]), rtol=0, atol=ATOL)


def test_two_processes_go_on_where_one_stopped(
    by_one: dict[int, Path], by_two: dict[int, Path], broken_off: Path
) -> None:
    """A checkpoint of one process is one of two; the steps before are not done again."""
    assert [path.name for path in broken_off.with_name("11-second").iterdir()] == [NAME]
    assert losses(broken_off) == pytest.approx(losses(by_one[11]), rel=RTOL)
    assert torch.allclose(rebuilt(broken_off), rebuilt(by_one[11]), rtol=0, atol=ATOL)


# The command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blemish(folder: Path) -> Path:
    """The command as a file, which torchrun and Fabric can start."""
    path = folder / "command.py"
    path.write_text(BLEMISH)
    return path


def fit(good: Path, output: Path, *options: object, epochs: int = 2) -> list[str]:
    """The arguments of a small training."""
    values = {**NETWORK, "epochs": epochs}
    settings = [text for name in values for text in ("--set", f"{name}={values[name]}")]
    fixed = ["--method", "tfanet", "--size", "64", "--false-alarm-rate", str(RATE), *settings]
    return ["fit", str(good), "-o", str(output), "--device", "cpu", *fixed, *map(str, options)]


@pytest.fixture(scope="module")
def alone(parts: Path) -> Inspector:
    """What one process learns, in this one."""
    good = parts / "train" / "good"
    inspector = Inspector(TFANet(**NETWORK), size=64, device="cpu")
    return inspector.fit(good).calibrate(false_alarm_rate=RATE)


def same_threshold(bundle: Path, alone: Inspector) -> bool:
    """Whether a bundle judges as the one of one process does."""
    found = Inspector.load(bundle, device="cpu").calibration
    assert found is not None
    assert alone.calibration is not None
    return found.threshold == pytest.approx(alone.calibration.threshold, rel=1e-4)


@pytest.mark.parametrize("starter", ["--devices 2", "torchrun"])
def test_the_command_learns_with_two_processes(
    starter: str, blemish: Path, alone: Inspector, parts: Path, tmp_path: Path
) -> None:
    """By --devices or torchrun: the bundle of one process, one summary, no warnings."""
    arguments = fit(parts / "train" / "good", tmp_path / "two")
    if starter == "torchrun":
        runner = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        done = subprocess.run(
            [sys.executable, *runner, str(blemish), *arguments],
            capture_output=True, text=True, timeout=120, check=False, env=environment(),
        )  # fmt: skip
    else:
        done = two(blemish, *arguments, "--devices", 2)
    assert done.returncode == 0
    assert done.stderr.count("Saved") == 1
    assert "Warning" not in done.stderr
    assert same_threshold(tmp_path / "two", alone)


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def nodes(blemish: Path, commands: list[list[str]]) -> list[subprocess.CompletedProcess[str]]:
    """One command a node, all at once; nodes are processes that meet as machines would."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, str(blemish), *command, "--nodes", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(NODE_RANK=str(number), **meeting),
        )
        for number, command in enumerate(commands)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in started]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *told)
        for process, told in zip(started, said, strict=True)
    ]


def test_two_nodes_learn_together(
    blemish: Path, alone: Inspector, parts: Path, tmp_path: Path
) -> None:
    """--nodes: the first machine has the bundle, the other has learned and written nothing."""
    good = parts / "train" / "good"
    first, second = nodes(blemish, [fit(good, tmp_path / name) for name in ("first", "second")])
    assert (first.returncode, second.returncode) == (0, 0)
    assert "Saved" in first.stderr
    assert second.stderr == second.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert same_threshold(tmp_path / "first", alone)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_killed_process_ends_the_run_with_one_sentence(
    blemish: Path, parts: Path, tmp_path: Path
) -> None:
    """After kill -9 of the second process the first says so at once, and its log is whole."""
    arguments = fit(parts / "train" / "good", tmp_path / "x", "--devices", 2, epochs=5000)
    process = subprocess.Popen(
        [sys.executable, str(blemish), *arguments, "--set", f"run_dir={tmp_path / 'run'}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    log = tmp_path / "run" / "training.csv"
    while process.poll() is None and not (log.is_file() and len(log.read_text()) > 500):
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "another of its processes has gone" in said
    assert not (tmp_path / "x").exists()
