"""`blemish pack` and `unpack`, as a person at a shell meets them."""

from __future__ import annotations

from pathlib import Path

from blemish.bundle import read_manifest


def test_pack_and_unpack(cli, bundle: Path, tmp_path: Path) -> None:
    """A bundle goes into one file and comes back; remarks go to stderr, and --quiet says none."""
    packed, again = tmp_path / "board.zip", tmp_path / "again.blemish"
    done = cli("pack", bundle, "-o", packed)
    assert (done.status, done.stdout) == (0, "")
    assert f"{packed} holds {bundle}: 1 version, the current one is 1;" in done.stderr
    done = cli("unpack", packed, "-o", again, "--quiet")
    assert (done.status, done.stdout, done.stderr) == (0, "", "")
    assert read_manifest(again) == read_manifest(bundle)


def test_what_cannot_be_packed_is_said(cli, bundle: Path, tmp_path: Path) -> None:
    """Errors are one sentence and exit status 2; the file given for the bundle names the way."""
    (tmp_path / "photo.png").write_bytes(b"mine")
    done = cli("pack", bundle, "-o", tmp_path / "photo.png")
    assert (done.status, "is no packed bundle" in done.stderr) == (2, True)
    done = cli("unpack", tmp_path / "photo.png", "-o", tmp_path / "b")
    assert (done.status, "is not a packed bundle" in done.stderr) == (2, True)
    cli("pack", bundle, "-o", tmp_path / "board.zip")
    done = cli("inspect", tmp_path / "board.zip", tmp_path / "photo.png")
    assert (done.status, "unpack it first: blemish unpack" in done.stderr) == (2, True)
