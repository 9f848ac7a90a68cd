"""Images from an S3 store and results into one: moto's server, on loopback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blemish.errors import (
    ImageError,
    ImageMissingError,
    MissingExtraError,
    NoImagesError,
    ParameterError,
    SourceError,
)
from blemish.imaging import MAX_PIXELS
from blemish.scale import fetching, score
from blemish.scale.fetching import fetch
from blemish.scale.storage import Place

from .scale_tools import rows_of

BUCKET = "parts"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server of this process."""
    from moto.server import ThreadedMotoServer

    started = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store as fsspec sees it, with an empty bucket."""
    for key, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(key, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # of the server of another test
    store = fsspec.filesystem("s3")
    store.mkdir(BUCKET)
    yield store
    store.rm(BUCKET, recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def images(parts: Path) -> list[Path]:
    """Four good images."""
    return sorted((parts / "test" / "good").iterdir())


def run(bundle: Path, source: Any, out: Any, **options: Any) -> Any:
    """Score here, in parts of two images."""
    return score(bundle, source, out, workers=1, device="cpu", rows_per_part=2, **options)


def fill(store: Any, images: list[Path]) -> None:
    """Put images into the bucket, one of them in a folder of its own."""
    for number, path in enumerate(images):
        store.put_file(str(path), f"{BUCKET}/in/{'deep/' * (number % 2)}{path.name}")


def test_a_store_as_source(quick_bundle: Path, images: list[Path], s3: Any, tmp_path: Path) -> None:
    """A folder of a bucket gives the scores of the same files, named by their keys."""
    fill(s3, images)
    run(quick_bundle, f"s3://{BUCKET}/in", tmp_path / "out")
    run(quick_bundle, images[0].parent, tmp_path / "near")
    found = {Path(row["image"]).name: row for row in rows_of(tmp_path / "out")}
    assert {name: row["score"] for name, row in found.items()} == {
        row["id"]: row["score"] for row in rows_of(tmp_path / "near")
    }
    assert found[images[1].name]["id"] == f"deep/{images[1].name}"
    assert found[images[1].name]["image"] == f"s3://{BUCKET}/in/deep/{images[1].name}"


def test_a_store_for_results_and_going_on_there(
    quick_bundle: Path, images: list[Path], s3: Any
) -> None:
    """Parts, plan and summary are keys of the bucket; a part that is gone is scored again."""
    fill(s3, images)
    out = f"s3://{BUCKET}/results/run1"
    run(quick_bundle, f"s3://{BUCKET}/in", out, maps=True)
    names = {Path(key).name for key in s3.ls(f"{BUCKET}/results/run1")}
    part = "part-000001-000000002-000000004.parquet"
    assert names == {
        "_plan.json", "_work.parquet", "_summary.json", "_SUCCESS", part,
        "part-000000-000000000-000000002.parquet",
    }  # fmt: skip
    s3.rm(f"{BUCKET}/results/run1/{part}")
    told: list[Any] = []
    summary = run(quick_bundle, f"s3://{BUCKET}/in", out, maps=True, told=told.append)
    assert [report["part"] for report in told] == [1]
    assert summary.scored == 2
    with fsspec.open(f"{out}/{part}") as file:
        assert pq.read_table(file)["position"].to_pylist() == [2, 3]


def test_a_list_and_a_table_in_a_store(
    quick_bundle: Path, images: list[Path], s3: Any, tmp_path: Path
) -> None:
    """A list and Parquet of bytes may lie in the store too; a key that is not there is a row."""
    fill(s3, images)
    lines = [images[0].name, f"s3://{BUCKET}/in/gone.png", "s3://no-such-bucket/x.png"]
    s3.pipe_file(f"{BUCKET}/in/list.txt", "\n".join(lines).encode())
    run(quick_bundle, f"s3://{BUCKET}/in/list.txt", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["error_code"] for row in rows] == [None, "image_missing", "image_missing"]
    assert rows[0]["image"] == f"s3://{BUCKET}/in/{images[0].name}"
    with fsspec.open(f"s3://{BUCKET}/t.parquet", "wb") as file:
        pq.write_table(pa.table({"bytes": [path.read_bytes() for path in images]}), file)
    run(quick_bundle, f"s3://{BUCKET}/t.parquet", tmp_path / "bytes")
    assert rows_of(tmp_path / "bytes")[0]["score"] == rows[0]["score"]


def test_an_empty_object_and_a_large_one(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no bytes, or more than any image needs, is told before it is downloaded."""
    s3.pipe_file(f"{BUCKET}/none.png", b"")
    s3.pipe_file(f"{BUCKET}/huge.png", b"x" * 2000)
    monkeypatch.setattr(fetching, "largest_file", lambda _: 1000)
    with pytest.raises(ImageError, match="holds no bytes"):
        fetch(Place.of(f"s3://{BUCKET}/none.png"), MAX_PIXELS)
    with pytest.raises(ImageError, match="has 2000 bytes"):
        fetch(Place.of(f"s3://{BUCKET}/huge.png"), MAX_PIXELS)
    with pytest.raises(ImageMissingError, match="no such file"):
        fetch(Place.of(f"s3://{BUCKET}/gone.png"), MAX_PIXELS)


def test_an_empty_bucket_names_no_image(quick_bundle: Path, s3: Any, tmp_path: Path) -> None:
    """A key that is not there is one sentence."""
    with pytest.raises(NoImagesError, match=r"s3://parts/nothing does not exist"):
        run(quick_bundle, f"s3://{BUCKET}/nothing", tmp_path / "out")


def test_a_store_that_cannot_be_reached_ends_the_run(
    quick_bundle: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage is no image's fault: no error rows, one sentence, and the run goes on later."""
    calls: list[str] = []

    def down(place: Place, _: int) -> bytes:
        calls.append(place.address)
        raise OSError("connection refused")

    (tmp_path / "list.txt").write_text(f"{images[0]}\n{images[1]}\nmemory://away/x.png\n")
    monkeypatch.setattr(fetching, "_download", down)
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0))
    with pytest.raises(SourceError, match=r"connection refused.*it goes on where it stopped"):
        run(quick_bundle, tmp_path / "list.txt", tmp_path / "out")
    assert len(calls) == 3  # tried again before it was given up
    assert len(rows_of(tmp_path / "out")) == 2  # the part before it is kept


def test_one_forbidden_image_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that forbids one key tells so once, as that image's error."""
    calls: list[str] = []

    def forbidden(place: Place, _: int) -> bytes:
        calls.append(place.address)
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fetching, "_download", forbidden)
    with pytest.raises(ImageError, match="does not let us read it"):
        fetch(Place.of("s3://parts/secret.png"), MAX_PIXELS)
    assert len(calls) == 1


@pytest.mark.parametrize("url", ["s3://bucket/in", "gs://bucket/in"])
def test_a_missing_package_names_the_extra(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs or gcsfs, one sentence says what to install."""
    package = {"s3": "s3fs", "gs": "gcsfs"}[url[:2]]
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url[:2], raising=False)
    with pytest.raises(MissingExtraError, match=rf"{package}.*blemish\[scale\]") as caught:
        Place.of(url).exists()
    assert "\n" not in str(caught.value)


def test_memory_needs_one_worker(quick_bundle: Path, tmp_path: Path, images: list[Path]) -> None:
    """memory:// serves source and results within a process, and is refused for more."""
    store = fsspec.filesystem("memory")
    store.pipe_file("/in/a.png", images[0].read_bytes())
    try:
        run(quick_bundle, "memory://in", "memory://out")
        with store.open("/out/part-000000-000000000-000000001.parquet") as file:
            assert pq.read_table(file)["verdict"].to_pylist() == ["pass"]
        with pytest.raises(ParameterError, match="memory of this process alone"):
            score(quick_bundle, "memory://in", tmp_path / "out", workers=2)
    finally:
        store.rm("/in", recursive=True)
        store.rm("/out", recursive=True)


def test_places_by_path_and_url(tmp_path: Path) -> None:
    """Relative names belong to a folder, near or far; URLs and absolute paths to none."""
    bucket = Place.of("s3://b/lists/")
    assert Place.of("x/a.png", bucket).address == "s3://b/lists/x/a.png"
    assert Place.of("/x/a.png", bucket).address == "/x/a.png"
    assert Place.of("gs://c/a.png", bucket).address == "gs://c/a.png"
    assert Place.of(f"file://{tmp_path}/a.png").local == tmp_path / "a.png"
    assert Place.of("../a.png", Place.of(tmp_path / "d")).local == tmp_path / "a.png"
    assert Place.of("s3://b/lists/l.txt").folder.address == "s3://b/lists"
