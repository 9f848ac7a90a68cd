"""`blemish update`: what comes, goes and comes back, as a person at a shell meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blemish.bundle import locked, read_history, read_manifest
from blemish.cli import _options


@pytest.fixture
def new(parts: Path) -> list[Path]:
    """Good parts that the bundle has not seen."""
    return sorted((parts / "test" / "good").iterdir())


def test_add_remove_and_go_back(cli, bundle: Path, new: list[Path]) -> None:
    """Every change is a version with its JSON, and the added part passes with a score of 0."""
    added = cli("update", bundle, "--add", new[0], new[1], "--by", "Ada", "--json", "-")
    assert added.status == 0
    done = json.loads(added.stdout)
    assert list(done) == [
        "bundle", "version", "added", "removed", "skipped", "calibration", "notes", "seconds",
    ]  # fmt: skip
    assert (done["version"], done["skipped"], done["notes"]) == (2, [], [])
    assert [record["source"] for record in done["added"]] == [str(new[0]), str(new[1])]
    assert (done["calibration"]["parts"], done["calibration"]["false_alarm_rate"]) == (22, 0.05)
    (result,) = map(json.loads, cli("inspect", bundle, new[0]).stdout.splitlines())
    assert (result["version"], result["verdict"]) == (2, "pass")
    assert abs(result["score"]) < 1e-5

    removed = cli("update", bundle, "--remove", done["added"][0]["id"][:8], "--note", "blurred")
    assert removed.status == 0
    assert f"- {done['added'][0]['id']}" in removed.stderr
    assert "now version 3 with 21 templates" in removed.stderr
    back = cli("update", bundle, "--rollback", 2)
    assert "now version 4, which is version 2 again" in back.stderr
    entries = read_history(bundle)
    assert [entry.kind for entry in entries] == ["fit", "update", "update", "rollback"]
    assert [entry.by for entry in entries] == ["", "Ada", *[_options.login_name()] * 2]
    assert entries[2].note == "blurred"
    assert entries[3].threshold == entries[1].threshold


def test_history(cli, bundle: Path, new: list[Path]) -> None:
    """--history lists versions and templates, for people and as JSON, and changes nothing."""
    cli("update", bundle, "--add", new[0], "--quiet")
    before = (bundle / "manifest.json").read_bytes()
    told = cli("update", bundle, "--history", "--quiet")
    assert (told.status, told.stderr) == (0, "")
    assert "update +1" in told.stdout
    assert f"since version 2  {new[0]}" in told.stdout
    listed = json.loads(cli("update", bundle, "--history", "--json", "-").stdout)
    assert [entry["version"] for entry in listed["history"]] == [1, 2]
    assert (listed["version"], len(listed["templates"])) == (2, 21)
    assert (bundle / "manifest.json").read_bytes() == before


def test_nothing_to_do_is_said(cli, bundle: Path, parts: Path) -> None:
    """A picture that is a template already is named, and makes no version."""
    known = sorted((parts / "train" / "good").iterdir())[0]
    outcome = cli("update", bundle, "--add", known)
    assert outcome.status == 0
    assert "stays version 1" in outcome.stderr
    assert f"{known} is already a template" in outcome.stderr
    assert read_manifest(bundle).version == 1


def test_a_lost_threshold_is_said(cli, bundle: Path) -> None:
    """When too few good parts are left, the version has no threshold and the user is told."""
    ids = [record.id for record in read_manifest(bundle).templates]
    outcome = cli("update", bundle, "--remove", *ids[:4])
    assert outcome.status == 0
    assert "It has no threshold" in outcome.stderr
    assert read_manifest(bundle).calibration is None
    again = cli("calibrate", bundle, "--false-alarm-rate", 0.1)  # from the pictures it kept
    assert (again.status, "scores of 16 good parts" in again.stderr) == (0, True)
    skipped = cli("update", bundle, "--remove", ids[5], "--no-calibrate")
    assert (skipped.status, "calibrate it" in skipped.stderr) == (0, True)


def test_a_bundle_without_pictures(cli, parts: Path, tmp_path: Path, new: list[Path]) -> None:
    """fit --no-pictures keeps none; update then takes good parts to calibrate on."""
    target, good = tmp_path / "b.blemish", parts / "train" / "good"
    small = ("--size", 64, "--device", "cpu", "--sheets", 4)
    assert cli("fit", good, "-o", target, *small, "--no-pictures").status == 0
    assert list(target.glob("pictures*")) == []
    outcome = cli("update", target, "--add", new[0], "--good", good)
    assert (outcome.status, "scores of 20 good parts" in outcome.stderr) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --add and/or --remove"),
        (["--history", "--rollback", "1"], "give --add and/or --remove"),
        (["--add"], "--add stands alone"),
        (["--add", "--quiet"], "--add stands alone"),
        (["--add", "no-such.png"], "no-such.png"),
        (["--remove", "zzzz"], "there is no template 'zzzz'"),
        (["--remove", "ab"], "too short"),
        (["--rollback", "1"], "is the one in use"),
        (["--rollback", "9"], "there is no version 9"),
        (["--remove", "zzzz", "--no-calibrate", "--false-alarm-rate", "0.1"], "goes with neither"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_update_refuses_in_one_sentence(cli, bundle: Path, arguments: list[str], said: str) -> None:
    """What cannot work exits with 2 and leaves the bundle as it was."""
    before = (bundle / "manifest.json").read_bytes()
    outcome = cli("update", bundle, *arguments)
    assert outcome.status == 2
    assert said in " ".join(outcome.stderr.split())
    assert (bundle / "manifest.json").read_bytes() == before


def test_no_bundle(cli, tmp_path: Path) -> None:
    """A folder that is no bundle is named, and nothing is left in it."""
    outcome = cli("update", tmp_path, "--history")
    assert (outcome.status, "is not a bundle" in outcome.stderr) == (2, True)
    assert cli("update", tmp_path, "--rollback", 1).status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_locked_bundle(
    cli, bundle: Path, new: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another changes the bundle, the command waits a while and then says so."""
    import threading

    from blemish.bundle import lock

    monkeypatch.setattr(lock.locked.__wrapped__, "__kwdefaults__", {"wait": 0.1})
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(bundle):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    outcome = cli("update", bundle, "--add", new[0])
    done.set()
    thread.join(10)
    assert (outcome.status, "being changed by another process" in outcome.stderr) == (2, True)
