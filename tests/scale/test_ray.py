"""Ray: the same rows as here, and each image once although a node dies in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import BundleError
from blemish.scale import score
from blemish.scale.engines.ray import RayEngine

from .scale_tools import positions, repeated, rows_of
from .test_engines import Failing, ignore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    # Ray leaves sockets and files to the end of its processes.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO.*:FutureWarning"),
]
COUNT, PART = 300, 5


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores, and two nodes with one each, all on this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Else Ray takes this machine's own address where it is told the loopback one.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests.parent / 'src'}:{tests}")
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
    )
    started.workers = [started.add_node(num_cpus=1, **small) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started
    ray.shutdown()
    started.shutdown()


def test_a_node_dies_in_the_middle(
    cluster: Any, quick_bundle: Path, parts: Path, tmp_path: Path
) -> None:
    """Two workers on two nodes, one of which is killed: every image is in the results once.

    What a worker says of errors arrives; the rows are those of a run here.
    """
    images = sorted((parts / "test").rglob("*.png"))
    source = repeated([*images, tmp_path / "gone.png"], COUNT, tmp_path / "list.txt")
    out, killed = tmp_path / "out", []

    def told(report: dict[str, Any]) -> None:
        if not killed and len(list(out.glob("part-*"))) >= 6:
            node = cluster.workers.pop()
            cluster.remove_node(node, allow_graceful=False)
            killed.append(len(list(out.glob("part-*"))))

    options: dict[str, Any] = {"device": "cpu", "rows_per_part": PART}
    summary = score(quick_bundle, source, out, engine="ray", workers=2, told=told, **options)
    assert killed, "no node was killed"
    assert killed[0] < COUNT // PART, "all was done before a node was killed"
    assert positions(out) == list(range(COUNT))
    assert summary.scored == COUNT
    assert not list(out.glob(".part*"))
    score(quick_bundle, source, tmp_path / "near", workers=1, **options)
    same = ("id", "score", "verdict", "error_code", "regions")
    near = [[row[key] for key in same] for row in rows_of(tmp_path / "near")]
    assert [[row[key] for key in same] for row in rows_of(out)] == near
    with pytest.raises(BundleError, match="three is not for us"):
        list(RayEngine(1).map(Failing, range(5), ignore))
