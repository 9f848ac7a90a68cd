"""The processes of a training: what each takes, and what is refused before any is started."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blemish.cli import _processes
from blemish.cli._processes import one_voice
from blemish.detectors import HETMM
from blemish.errors import BlemishError, ParameterError, ProcessLostError
from blemish.train.tfanet import TFANet
from blemish.train.tfanet.checkpoint import fingerprint
from blemish.train.tfanet.processes import Layout, check_same, layout, others_told, share, start
from common import Outcome

CPU = torch.device("cpu")


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells one of two processes on each of three machines."""
    told = {
        "TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "6",
        "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8, 12])
def test_shares_make_up_the_batch(batch: int, world: int) -> None:
    """Every row counts once, and the mean of the weighted means is the mean of the batch."""
    losses = torch.rand(batch, dtype=torch.float64)
    shares = [share(batch, rank, world) for rank in range(world)]
    counted = [row for part in shares if part.weight > 0 for row in part.rows]
    assert sorted(counted) == list(range(batch))
    mean = sum(part.weight * losses[part.rows].mean() for part in shares) / world
    assert float(mean) == pytest.approx(float(losses.mean()), rel=1e-12)
    assert all(part.rows for part in shares)  # no process may have nothing to do in a step


def test_one_process_takes_the_batch_as_it_is() -> None:
    """Alone, a process has all rows in their order and weight one, so nothing is rounded."""
    assert share(3, 0, 1) == ([0, 1, 2], 1.0)


def test_layout_is_what_was_asked_for() -> None:
    """One process by default, else devices times nodes."""
    assert layout() == Layout(1, 1)
    assert layout(2, 3).processes == 6


def test_layout_is_what_torchrun_started(torchrun: None) -> None:
    """Under torchrun its processes are taken, and an option that contradicts them is refused."""
    assert layout() == layout(2, 3) == Layout(2, 3)
    with pytest.raises(ParameterError, match="devices is 4, but torchrun has started 2"):
        layout(devices=4)
    with pytest.raises(ParameterError, match="leave nodes out"):
        layout(nodes=2)


@pytest.mark.parametrize("asked", [{"devices": 0}, {"nodes": 0}, {"nodes": -1}])
def test_less_than_one_is_refused(asked: dict[str, int]) -> None:
    """No device and no machine is no place to train."""
    with pytest.raises(ParameterError, match=f"{next(iter(asked))} is .*at least 1"):
        layout(**asked)


def test_more_devices_than_there_are_are_refused() -> None:
    """The sentence says how many the machine has."""
    cores = os.cpu_count() or 1
    with pytest.raises(ParameterError, match=f"has {cores} processor cores; give {cores} or fewer"):
        start(CPU, "32-true", 4, Layout(cores + 1, 1))


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for GPUs, and one GPU's name contradicts several devices."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ParameterError, match="devices is 3, but this machine has 2 GPUs"):
        start(torch.device("cuda"), "32-true", 6, Layout(3, 1))
    with pytest.raises(ParameterError, match="'cuda:1', which is one, but devices is 2"):
        start(torch.device("cuda:1"), "32-true", 4, Layout(2, 1))


def test_a_batch_that_does_not_divide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method's batch is what is learned from in a step, so it is never rounded."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    with pytest.raises(ParameterError, match="batch_size is 4, which 3 processes cannot share"):
        start(CPU, "32-true", 4, Layout(3, 1))
    with pytest.raises(ParameterError, match="multiple of 8"):
        TFANet(batch_size=4, devices=8).start("cpu")


def test_nodes_must_know_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun, the variables that are missing are named."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(ParameterError, match=r"MASTER_PORT, NODE_RANK are not set.*torchrun"):
        start(CPU, "32-true", 4, Layout(1, 2))


@dataclass(frozen=True)
class Two:
    """What `check_same` asks of Fabric: the first of two processes, and what the other brings."""

    other: tuple[int, int]
    world_size: int = 2
    global_rank: int = 0
    device: torch.device = CPU

    def all_reduce(self, mine: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        return mine + torch.tensor([[0, 0], self.other])


RUN = fingerprint({"images": ["a", "b"]})


def test_the_same_run_at_the_same_step_goes_on() -> None:
    """Processes that agree are let go on; one alone is not asked."""
    check_same(Two((5, int(RUN[:15], 16))), 5, RUN)
    check_same(Two((0, 0), world_size=1), 5, "")


def test_other_images_or_options_are_refused() -> None:
    """A machine whose folder differs would learn something else without a word."""
    with pytest.raises(ParameterError, match="given different images or options"):
        check_same(Two((5, int(fingerprint({"images": ["a"]})[:15], 16))), 5, RUN)


def test_another_checkpoint_is_refused() -> None:
    """A run_dir that only one machine sees would let the others begin anew."""
    with pytest.raises(ParameterError, match="run_dir be one folder that every node sees"):
        check_same(Two((0, int(RUN[:15], 16))), 5, RUN)


GONE = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2222"


def test_a_lost_process_becomes_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several processes, what the backend says of a lost one is told with the step."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = "after step 7: another of its processes has gone"
    with pytest.raises(ProcessLostError, match=said), others_told(7):
        raise RuntimeError(GONE)


@pytest.mark.parametrize(
    ("world", "error"),
    [
        ("1", RuntimeError(GONE)),
        ("2", RuntimeError("mat1 and mat2 shapes cannot be multiplied")),
        ("2", torch.OutOfMemoryError("CUDA out of memory. Process group of 2")),
        ("2", ValueError(GONE)),
    ],
)
def test_other_errors_pass(world: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not a lost connection stays what it is."""
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(type(error)) as caught, others_told(7):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("world", "local", "error", "ends"),
    [
        ("1", "1", ParameterError("no"), ParameterError),
        ("2", "0", ParameterError("no"), ParameterError),
        ("2", "1", ParameterError("no"), SystemExit),
        ("2", "1", KeyboardInterrupt(), SystemExit),
        ("2", "0", KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_the_first_process_of_a_machine_speaks(
    world: str,
    local: str,
    error: BaseException,
    ends: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The others end with the same status and say nothing; a process alone always speaks."""
    parents = iter([7, 7, 1])  # whoever started it has met the same and is gone
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("LOCAL_RANK", local)
    with pytest.raises(ends) as caught, one_voice():
        raise error
    if ends is SystemExit:
        assert caught.value.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ParameterError("no room"), "blemish: process 1 beside the first: no room\n"),
        (ProcessLostError("another has gone"), ""),
    ],
)
def test_a_process_that_fails_alone_speaks(
    error: BlemishError,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What only one process meets (a full disk) is told, for the first does not know of it."""
    monkeypatch.setattr(_processes, "_GRACE", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as caught, one_voice():
        raise error
    assert caught.value.code == 2
    assert capsys.readouterr().err == said


def test_hetmm_learns_in_one_process(
    torchrun: None, cli: Callable[..., Outcome], parts: Path, tmp_path: Path
) -> None:
    """HETMM refuses torchrun and --devices: its processes would write the same bundle."""
    with pytest.raises(ParameterError, match="hetmm learns in one process"):
        HETMM().start("cpu")
    done = cli("fit", parts / "train" / "good", "-o", tmp_path / "x", "--devices", 2)
    assert done.status == 2


def test_devices_of_hetmm_are_refused(
    cli: Callable[..., Outcome], parts: Path, tmp_path: Path
) -> None:
    """The command line says which option to leave out."""
    done = cli("fit", parts / "train" / "good", "-o", tmp_path / "x", "--nodes", 2)
    assert (done.status, done.stdout) == (2, "")
    assert "--nodes: hetmm learns in one process; leave the option out" in done.stderr
    assert not (tmp_path / "x").exists()


def test_devices_are_no_setting(cli: Callable[..., Outcome], parts: Path, tmp_path: Path) -> None:
    """`--set devices=2` would start processes of verbs that are not made for it."""
    good = parts / "train" / "good"
    done = cli("fit", good, "-o", tmp_path / "x", "--method", "tfanet", "--set", "devices=2")
    assert done.status == 2
    assert "has no 'devices'" in done.stderr
