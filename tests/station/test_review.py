"""People decide, propose and approve; an inspector changes as far as its regression set lets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from blemish.errors import ParameterError
from blemish.inspector import Inspector
from blemish.station.core import Station
from blemish.station.errors import ConflictError, NotAllowedError, RefusedError, UnknownError
from blemish.station.inspecting import Part
from blemish.station.people import Person
from blemish.station.store.inspections import awaiting, find
from blemish.verdict import Rule
from station.conftest import png

OTTO, ELLA, EMIL = (
    Person("otto", "operator"), Person("ella", "engineer"), Person("emil", "engineer"),
)  # fmt: skip


def inspected(station: Station, seed: int, defect: str | None = None) -> Any:
    """A part on record."""
    return station.inspecting.inspect(Part("board", png(seed, defect)))[0].row


def version(station: Station) -> int:
    """The live version."""
    return station.shelf.get("board").live.version


def test_a_decision_stands_beside_the_verdict_and_the_newest_counts(station: Station) -> None:
    """A decision stands beside the verdict and the newest counts."""
    row = inspected(station, 6, "stain")
    station.reviewing.decide(row.id, "pass", OTTO, "only dust")
    station.reviewing.decide(row.id, "fail", ELLA)
    judged = find(station.database, row.id)
    assert judged.row.verdict == "fail"
    assert judged.decision is not None
    assert (judged.decision.decision, judged.decision.by) == ("fail", "ella")


def test_the_queue_is_nearest_first_and_without_what_is_decided(station: Station) -> None:
    """The queue is nearest first and without what is decided."""
    threshold = station.shelf.get("board").live.thresholds.threshold
    assert threshold is not None
    rule = Rule(threshold=threshold * 100, review_threshold=0.0)
    station.reviewing.set_thresholds("board", rule, ELLA)
    rows = [inspected(station, seed, "stain" if seed == 6 else None) for seed in range(4, 9)]
    assert {row.verdict for row in rows} == {"review"}
    queue = [one.row for one in awaiting(station.database)]
    assert [row.nearness for row in queue] == sorted(row.nearness for row in rows)
    assert queue[0].id == rows[2].id  # the stained one has the score nearest to the threshold
    station.reviewing.decide(queue[0].id, "fail", OTTO)
    assert [one.row.id for one in awaiting(station.database)] == [row.id for row in queue[1:]]


def test_a_template_takes_two_persons_and_goes_live(station: Station) -> None:
    """A template takes two persons and goes live."""
    row = inspected(station, 6, "stain")
    assert row.verdict == "fail"
    candidate = station.reviewing.propose(row.id, OTTO, "this stain is allowed")
    judged = find(station.database, row.id)
    assert judged.decision is not None
    assert judged.decision.decision == "pass"
    with pytest.raises(NotAllowedError, match="takes an engineer"):
        station.reviewing.approve(candidate.id, OTTO)
    change = station.reviewing.approve(candidate.id, ELLA, "agreed")
    assert (change.outcome, change.before, change.after) == ("live", 1, 2)
    assert version(station) == 2
    live = station.shelf.get("board")
    assert live.inspector.inspect(png(6, "stain")).verdict == "pass"
    assert inspected(station, 6, "stain").version == 2
    added = live.inspector.templates[-1]
    assert added.by == "ella"
    assert candidate.id in added.note
    # It is in the bundle, too, for whoever loads it.
    assert Inspector.load(live.folder, device="cpu").version == 2
    done = station.reviewing.candidate(candidate.id)
    assert (done.state, done.decided_by, done.version) == ("approved", "ella", 2)
    with pytest.raises(ConflictError, match="approved by ella already"):
        station.reviewing.approve(candidate.id, EMIL)


def test_nobody_approves_what_they_proposed(station: Station) -> None:
    """Nobody approves what they proposed."""
    candidate = station.reviewing.propose(inspected(station, 6).id, ELLA)
    with pytest.raises(NotAllowedError, match="another person"):
        station.reviewing.approve(candidate.id, ELLA)
    assert version(station) == 1


def test_a_part_waits_once_and_can_be_rejected(station: Station) -> None:
    """A part waits once and can be rejected."""
    row = inspected(station, 6)
    candidate = station.reviewing.propose(row.id, OTTO)
    with pytest.raises(ConflictError, match="waits for a second person"):
        station.reviewing.propose(row.id, ELLA)
    rejected = station.reviewing.reject(candidate.id, EMIL, "scratched")
    assert (rejected.state, rejected.answer, version(station)) == ("rejected", "scratched", 1)
    assert station.reviewing.propose(row.id, OTTO).state == "waiting"


def test_a_new_version_may_not_let_through_what_was_caught(station: Station) -> None:
    """A new version may not let through what was caught."""
    row = inspected(station, 6, "stain")
    part = station.reviewing.missed(row.id, OTTO, "came back from the customer")
    assert part.expected == "fail"
    candidate = station.reviewing.propose(row.id, OTTO)
    with pytest.raises(RefusedError, match=r"1 of the regression set worse.*fail to pass"):
        station.reviewing.approve(candidate.id, ELLA)
    assert version(station) == 1
    assert station.shelf.get("board").inspector.inspect(png(6, "stain")).verdict == "fail"
    assert station.reviewing.candidate(candidate.id).state == "waiting"
    refused = station.reviewing.changes("board")[0]
    assert (refused.outcome, refused.after) == ("refused", None)
    assert refused.report["regression"][0]["outcome"] == "worse"
    with pytest.raises(ParameterError, match="say in the note why"):
        station.reviewing.set_thresholds("board", Rule(threshold=99.0), ELLA, " ", force=True)
    change = station.reviewing.approve(candidate.id, ELLA, "new drawing", force=True)
    assert change.outcome == "live"


def test_a_part_that_is_missed_still_does_not_hold_up_a_version(station: Station) -> None:
    """A part that is missed still does not hold up a version."""
    row = inspected(station, 1)
    assert row.verdict == "pass"
    station.reviewing.missed(row.id, OTTO)
    change = station.reviewing.update("board", ELLA, add=[png(30)], note="to see")
    assert change.report["regression"][0]["outcome"] == "still wrong"
    low = Rule(threshold=row.score / 2)
    change = station.reviewing.set_thresholds("board", low, ELLA)
    assert change.report["regression"][0]["outcome"] == "mended"
    with pytest.raises(RefusedError):
        station.reviewing.roll_back("board", 1, ELLA)


def test_a_false_alarm_may_not_come_back(station: Station) -> None:
    """A false alarm may not come back."""
    row = inspected(station, 1)
    station.reviewing.false_alarm(row.id, OTTO)
    with pytest.raises(RefusedError, match="which should pass"):
        station.reviewing.set_thresholds("board", Rule(threshold=row.score / 2), ELLA)
    with pytest.raises(ConflictError, match="in the regression set already"):
        station.reviewing.missed(row.id, OTTO)
    part = station.reviewing.regression("board")[0]
    station.reviewing.forget_regression(part.id, ELLA)
    assert station.reviewing.regression("board") == []
    assert (
        station.reviewing.set_thresholds("board", Rule(threshold=row.score / 2), ELLA).outcome
        == "live"
    )


def test_a_lost_picture_of_the_regression_set_is_named(station: Station) -> None:
    """A lost picture of the regression set is named."""
    row = inspected(station, 1)
    station.reviewing.missed(row.id, OTTO)
    station.pictures.image_path(row.image_sha256).unlink()
    with pytest.raises(RefusedError, match=f"picture of part {row.id}.*is gone"):
        station.reviewing.update("board", ELLA, add=[png(30)])


def test_roll_back_brings_the_scores_back_to_the_bit(station: Station) -> None:
    """Roll back brings the scores back to the bit."""
    before = inspected(station, 6, "stain")
    station.reviewing.update("board", ELLA, add=[png(6, "stain")])
    assert inspected(station, 6, "stain").score != before.score
    change = station.reviewing.roll_back("board", 1, ELLA, "by mistake")
    after = inspected(station, 6, "stain")
    assert (change.after, after.version, after.score) == (3, 3, before.score)
    assert after.threshold_id == before.threshold_id


def test_thresholds_by_hand_and_by_promise_are_versions(station: Station) -> None:
    """Thresholds by hand and by promise are versions."""
    first = inspected(station, 1)
    station.reviewing.set_thresholds("board", Rule(threshold=0.5), ELLA, "stricter")
    second = inspected(station, 1)
    assert (second.score, second.threshold, second.version) == (first.score, 0.5, 2)
    assert second.threshold_id != first.threshold_id
    station.reviewing.set_thresholds("board", Rule(false_alarm_rate=0.1), ELLA)
    live = station.shelf.get("board").live
    assert (live.version, live.thresholds.false_alarm_rate) == (3, 0.1)


def test_a_change_that_fails_changes_nothing(station: Station, bundles: Path) -> None:
    """A change that fails changes nothing."""
    manifest = (bundles / "board.blemish" / "manifest.json").read_bytes()
    with pytest.raises(ParameterError, match="there is no template"):
        station.reviewing.update("board", ELLA, remove=["0123456789"])
    with pytest.raises(Exception, match="image bytes"):
        station.reviewing.update("board", ELLA, add=[b"no image"])
    with pytest.raises(UnknownError):
        station.reviewing.roll_back("bottle", 1, ELLA)
    assert version(station) == 1
    assert (bundles / "board.blemish" / "manifest.json").read_bytes() == manifest


def test_what_another_program_changes_is_taken_up(station: Station, bundles: Path) -> None:
    """What another program changes is taken up."""
    folder = bundles / "board.blemish"
    with Inspector.changing(folder, device="cpu") as inspector:
        inspector.set_threshold(0.25, by="somebody at the command line")
    station.shelf.refresh()
    assert version(station) == 2
    assert inspected(station, 1).threshold == 0.25


def test_a_damaged_bundle_leaves_the_version_before(station: Station, bundles: Path) -> None:
    """A damaged bundle leaves the version before."""
    manifest = bundles / "board.blemish" / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-40])
    station.shelf.refresh()
    assert inspected(station, 1).version == 1
    (bundles / "bad.blemish").mkdir()
    (bundles / "bad.blemish" / "manifest.json").write_bytes(b"{")
    station.shelf.refresh()
    assert [one.name for one in station.shelf.broken] == ["bad"]
    with pytest.raises(UnknownError, match=r"'bad' cannot be used: .*damaged"):
        station.shelf.get("bad")


def test_all_this_over_http(
    station: Station, operator: TestClient, engineer: TestClient, client: TestClient
) -> None:
    """All this over http."""
    row = inspected(station, 6, "stain")
    api = "/api/v1"
    said = operator.post(f"{api}/inspections/{row.id}/decisions", json={"decision": "pass"})
    assert (said.status_code, said.json()["by"]) == (201, "otto")
    proposed = operator.post(f"{api}/inspections/{row.id}/candidates", json={"note": "fine"})
    assert proposed.status_code == 201
    path = f"{api}/candidates/{proposed.json()['id']}/approve"
    assert client.post(path, json={}).status_code == 401
    assert operator.post(path, json={}).status_code == 403
    change = engineer.post(path, json={"note": "yes"}).json()
    assert (change["outcome"], change["after"], change["proposed_by"]) == ("live", 2, "otto")
    assert client.get(f"{api}/candidates", params={"state": "waiting"}).json() == []
    versions = client.get(f"{api}/inspectors/board/versions").json()
    assert [one["version"] for one in versions] == [2, 1]
    assert client.get(f"{api}/inspectors/board").json()["version"] == 2
    template = client.get(f"{api}/inspectors/board/templates").json()[-1]
    picture = client.get(f"{api}/inspectors/board/templates/{template['id']}.png")
    assert picture.headers["content-type"] == "image/png"
    back = engineer.post(f"{api}/inspectors/board/rollback", json={"version": 1})
    assert back.json()["after"] == 3
    files = [("add", ("a.png", png(30), "image/png"))]
    updated = engineer.post(
        f"{api}/inspectors/board/updates", files=files, data={"remove": template["id"][:8]}
    )
    assert updated.status_code == 422  # version 1 has no such template
    updated = engineer.post(f"{api}/inspectors/board/updates", files=files)
    assert updated.json()["after"] == 4
    set_ = engineer.post(f"{api}/inspectors/board/thresholds", json={"false_alarm_rate": 1e-4})
    assert set_.status_code == 422
    assert "needs 9999" in set_.json()["detail"]
    missed = operator.post(f"{api}/inspections/{row.id}/missed", json={})
    assert missed.json()["expected"] == "fail"
    regression = client.get(f"{api}/inspectors/board/regression").json()
    assert [one["inspection_id"] for one in regression] == [row.id]
    gone = engineer.delete(f"{api}/regression/{regression[0]['id']}")
    assert gone.status_code == 204
    changes = client.get(f"{api}/inspectors/board/changes").json()
    assert [one["kind"] for one in changes] == ["update", "rollback", "update"]


def test_two_changes_at_once_are_not_mixed(station: Station) -> None:
    """Two changes at once are not mixed."""
    with station.shelf.changing("board"), pytest.raises(ConflictError, match="being changed"):
        station.reviewing.roll_back("board", 1, ELLA)
