"""What many tests share: real data where it is there, made-up parts, and no network at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

from blemish.backbones import WeightStore
from blemish.demo.parts import write_dataset
from blemish.detectors import HETMM
from blemish.inspector import Inspector
from common import SIZE, Outcome, picture
from skips import told

if TYPE_CHECKING:  # the base install, whose tests run here too, has no database
    from blemish.station.store import Database
    from station.postgres import Postgres

# Property tests draw the same in every run: one that passed in CI passes everywhere. To look
# further, HYPOTHESIS_PROFILE=thorough draws anew, and ten times as much. None is timed: how long an
# example takes is the machine's affair.
THOROUGH = 10
hypothesis.settings.register_profile("usual", derandomize=True, deadline=None)
hypothesis.settings.register_profile("thorough", derandomize=False, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "usual")
hypothesis.settings.load_profile(PROFILE)

WEIGHTS = {
    "resnet18.tv_in1k": "resnet18_tv_in1k_layer1-3_fp16.safetensors",
    "resnet50.caffe_in1k": "resnet50_caffe_in1k_layer1-3_fp16.safetensors",
    "mobilenet_v2.onnxzoo_in1k": "mobilenet_v2_onnxzoo_in1k_fp16.safetensors",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the coverage what it would slow down; draw more examples in a thorough run."""
    _cover_own_tests(config, items)
    if PROFILE == "thorough":
        _draw_more(items)


def _cover_own_tests(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measure with `--cov=src/blemish/X` in the tests of `tests/X` and of `tests` itself alone.

    `--cov=blemish` measures in all of them.
    """
    sources = [Path(str(source)) for source in getattr(config.option, "cov_source", None) or ()]
    covered = {source.name for source in sources if source.parent.name == "blemish"}
    for item in items if covered else ():
        folders = item.path.relative_to(Path(__file__).parent).parts[:-1]
        if folders and folders[0] not in covered:
            item.add_marker("no_cover")


def _draw_more(items: list[pytest.Item]) -> None:
    """Draw ten times as many examples, whatever a test asks for."""
    done: set[int] = set()
    for item in items:
        test = getattr(item, "obj", None)
        function = getattr(test, "__func__", test)
        asked = getattr(function, "_hypothesis_internal_use_settings", None)
        if asked is None or id(function) in done:
            continue
        done.add(id(function))
        more = hypothesis.settings(
            asked, max_examples=THOROUGH * asked.max_examples, derandomize=False
        )
        function._hypothesis_internal_use_settings = more


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close with one line: how many tests were skipped, and what would let them run."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    reasons = [str(skipped.longrepr[2]) for skipped in reporter.stats.get("skipped", [])]
    if reasons:
        reporter.write_line(told(reasons))


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors are slower on more, much so beside the other processes of the test run.

    `.ci/numerics` asks for two, since with them sums are added up in another order.
    """
    asked = os.environ.get("BLEMISH_TEST_THREADS", "1")
    os.environ.setdefault("BLEMISH_THREADS", asked)
    if find_spec("torch") is not None:
        import torch

        torch.set_num_threads(int(asked))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing under test may try to reach another machine, even where its failure is caught."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo
    tried: list[Any] = []

    def is_near(host: Any) -> bool:
        name = host.decode() if isinstance(host, bytes) else host
        return name in {None, "", "localhost", "::1"} or str(name).startswith("127.")

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not is_near(address[0]):
            tried.append(address)
            raise OSError(f"a test tried to connect to {address}")
        connect(self, address)

    def resolved(host: Any, *rest: Any, **options: Any) -> Any:
        if not is_near(host):
            tried.append(host)
            raise OSError(f"a test tried to look up {host}")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    yield
    assert not tried, f"the network was asked for {tried}"


@pytest.fixture(autouse=True)
def _own_weight_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the weights of the person who runs it."""
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path / "no-weights"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights: BLEMISH_SHARED, or `shared` beside the checkout."""
    folder = os.environ.get("BLEMISH_SHARED")
    path = Path(folder) if folder else Path(__file__).parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("there are no real images and weights; name their folder in BLEMISH_SHARED")
    return path


@pytest.fixture(scope="session")
def _filled_store(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> WeightStore:
    pytest.importorskip("timm", reason="graphs of networks are made with blemish[train]")
    # Making the graphs takes most of a minute: the processes of a test run share one store.
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    store = WeightStore(root / "weights")
    store.root.mkdir(exist_ok=True)
    with (root / "weights.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, file in WEIGHTS.items():
            if not (shared / "weights" / file).is_file():
                pytest.skip(f"the shared folder has no weights/{file}")
            if not store.path(name).is_file():
                store.add_file(shared / "weights" / file, name)
    return store


@pytest.fixture
def weight_store(_filled_store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> WeightStore:
    """A store with the graphs of three real networks, in use for this test."""
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(_filled_store.root))
    return _filled_store


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up circuit boards in MVTec AD's layout: 20 good to learn, 4 good and 5 flawed to test.

    Twenty, because 19 is the fewest that can promise a false-alarm rate of 0.05.
    """
    folder = tmp_path_factory.mktemp("parts") / "board"
    return write_dataset(folder, good=20, test_good=4, per_defect=1, seed=3, size=SIZE)


@pytest.fixture(scope="session")
def good_images() -> list[np.ndarray]:
    """Ten good made-up parts [64, 64, 3], float32 in [0, 1]."""
    return [picture(seed) for seed in range(10)]


@pytest.fixture(scope="session")
def fitted(parts: Path) -> Inspector:
    """An inspector of the made-up parts, calibrated at 0.05; tests leave it as it is."""
    detector = HETMM(sheets=None, backbone="filterbank", preset="paper")  # all of 64 px counts
    inspector = Inspector(detector, size=SIZE, device="cpu")
    return inspector.fit(parts / "train" / "good").calibrate(false_alarm_rate=0.05)


@pytest.fixture
def bundle(fitted: Inspector, tmp_path: Path) -> Path:
    """That inspector saved, to change or damage at will."""
    name = fitted.name
    fitted.save(tmp_path / "board.blemish")
    fitted.name = name
    return tmp_path / "board.blemish"


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Threads that a stream starts in the test are gone soon after it."""

    def threads() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("blemish-")}

    before, until = threads(), time.monotonic() + 100
    yield
    while not threads() <= before:
        assert time.monotonic() < until, "threads are left"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def quick_bundle(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported bundle that inspects in milliseconds without PyTorch; tests leave it as it is."""
    one_level: dict[str, Any] = {
        "levels": (2,), "pool": (1,), "forward": (5,), "backward": (3,), "alpha": (0.5,),
        "level_weights": (1.0,), "windows": "manual", "normalise": False, "statistic": "max",
        "backbone": "filterbank", "selection": "spaced",
    }  # fmt: skip
    inspector = Inspector(HETMM(sheets=4, **one_level), size=32, device="cpu")
    inspector.fit(parts / "train" / "good").calibrate(false_alarm_rate=0.1)
    folder = tmp_path_factory.mktemp("quick") / "quick.blemish"
    inspector.export(folder)
    return folder


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """The command line in this process: `cli("inspect", bundle, image)`."""
    from blemish.cli import main

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capsys.readouterr()
        assert "Traceback" not in output.out + output.err
        return Outcome(int(caught.value.code or 0), output.out, output.err)

    return call


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process; those that stop it start it again."""
    from station.postgres import Postgres, programs

    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian's package is called postgresql)")
    server = Postgres()
    server.start()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind that a station can use."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'station.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(scope="session")
def _migrated() -> Callable[..., str]:
    """Gives the URL of a database with its tables, by its kind, to make copies of."""
    made: dict[str, str] = {}

    from blemish.station.store import Database

    def url_of(kind: str, make: Callable[[], str]) -> str:
        if kind not in made:
            made[kind] = make()
            database = Database(made[kind])
            database.migrate()
            database.close()
        return made[kind]

    return url_of


@pytest.fixture
def database(
    request: pytest.FixtureRequest, database_url: str, _migrated: Callable[..., str]
) -> Iterator[Database]:
    """A store's database with its tables, of each kind."""
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        folder = request.getfixturevalue("tmp_path_factory")
        source = _migrated("sqlite", lambda: f"sqlite:///{folder.mktemp('store') / 'empty.db'}")
        path.parent.mkdir()
        shutil.copy(source.removeprefix("sqlite:///"), path)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        server.copy(_migrated("postgresql", server.create), database_url)
    from blemish.station.store import Database

    found = Database(database_url)
    yield found
    found.close()
