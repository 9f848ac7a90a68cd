"""Which files are due: by a made-up clock, so that each rule is tested to the instant."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from blemish.streams.ledger import UNKNOWN, Ledger, Stamp


@pytest.fixture
def ledger() -> Ledger:
    """Files settle in 1 s and are given up after 10 s."""
    return Ledger(settle=1.0, timeout=10.0)


def due(ledger: Ledger, files: dict[str, Stamp], now: float) -> list[str]:
    """The names that are due."""
    return [name for name, _ in ledger.look(iter(files), files.get, now)]


def test_due_once_unchanged_for_settle(ledger: Ledger) -> None:
    """A file that still grows is not due; it is when size and time have kept for `settle`."""
    assert due(ledger, {"a": Stamp(10, 1, 7)}, 0.0) == []
    assert due(ledger, {"a": Stamp(20, 1, 7)}, 0.9) == []
    assert due(ledger, {"a": Stamp(20, 2, 7)}, 1.8) == []
    assert due(ledger, {"a": Stamp(20, 2, 7)}, 2.7) == []
    assert due(ledger, {"a": Stamp(20, 2, 7)}, 2.8) == ["a"]


def test_settle_zero_is_due_at_first_sight() -> None:
    """With settle 0 a file is due as soon as it is seen."""
    assert due(Ledger(0.0, 10.0), {"a": Stamp(10, 1, 7)}, 0.0) == ["a"]


def test_by_time_then_name(ledger: Ledger) -> None:
    """Files due together come by time of writing, and those of one time by name."""
    files = {"c": Stamp(1, 5, 1), "b": Stamp(1, 9, 2), "a": Stamp(1, 9, 3), "d": Stamp(1, 1, 4)}
    due(ledger, files, 0.0)
    assert due(ledger, files, 1.0) == ["d", "c", "a", "b"]


def test_taken_once_until_replaced(ledger: Ledger) -> None:
    """A taken file is not due again, until its name has another size or another time."""
    for round_, stamp in enumerate([Stamp(5, 1, 7), Stamp(6, 1, 7), Stamp(6, 2, 7)]):
        now = 10.0 * round_
        due(ledger, {"a": stamp}, now)
        assert due(ledger, {"a": stamp}, now + 1) == ["a"]
        ledger.taken("a", stamp)
        assert due(ledger, {"a": stamp}, now + 5) == []
    assert ledger.waiting == 0


def test_another_inode_alone_is_no_change(ledger: Ledger) -> None:
    """Network shares give a file another inode at times: neither settling nor taking minds."""
    due(ledger, {"a": Stamp(5, 1, 100)}, 0.0)
    assert due(ledger, {"a": Stamp(5, 1, 101)}, 1.0) == ["a"]
    ledger.taken("a", Stamp(5, 1, 101))
    assert due(ledger, {"a": Stamp(5, 1, 102)}, 3.0) == []


def test_taken_file_renamed(ledger: Ledger) -> None:
    """A taken file under a new name is the same part; a new file under its old name is not."""
    due(ledger, {"a": Stamp(5, 1, 7)}, 0.0)
    ledger.taken("a", Stamp(5, 1, 7))
    files = {"done": Stamp(5, 1, 7), "a": Stamp(5, 2, 8)}
    assert due(ledger, files, 5.0) == []
    assert due(ledger, files, 6.0) == ["a"]
    assert ledger.renamed == 1


def test_taken_file_renamed_during_a_look(ledger: Ledger) -> None:
    """A look that saw neither the old name nor the new one does not make the file a new part."""
    due(ledger, {"a": Stamp(5, 1, 7), "b": Stamp(5, 2, 8)}, 0.0)
    ledger.taken("a", Stamp(5, 1, 7))
    due(ledger, {"b": Stamp(5, 2, 8)}, 1.0)
    assert due(ledger, {"b": Stamp(5, 2, 8), "done": Stamp(5, 1, 7)}, 2.0) == ["b"]
    assert due(ledger, {"b": Stamp(5, 2, 8), "done": Stamp(5, 1, 7)}, 9.0) == ["b"]


def test_copy_beside_its_original_is_a_part(ledger: Ledger) -> None:
    """A second name for a file that is still there was put there on purpose."""
    due(ledger, {"a": Stamp(5, 1, 7)}, 0.0)
    ledger.taken("a", Stamp(5, 1, 7))
    files = {"a": Stamp(5, 1, 7), "linked": Stamp(5, 1, 7)}
    due(ledger, files, 5.0)
    assert due(ledger, files, 6.0) == ["linked"]


def test_waiting_file_renamed_keeps_its_time(ledger: Ledger) -> None:
    """A file renamed while it settles has not changed: it is due when it would have been."""
    due(ledger, {"part": Stamp(5, 1, 7)}, 0.0)
    assert due(ledger, {"a": Stamp(5, 1, 7)}, 0.9) == []
    assert due(ledger, {"a": Stamp(5, 1, 7)}, 1.0) == ["a"]
    assert ledger.vanished == 0


def test_gone_before_taken(ledger: Ledger) -> None:
    """A file that goes while it settles, or when it is to be read, counts as vanished."""
    due(ledger, {"a": Stamp(5, 1, 7), "b": Stamp(5, 2, 8)}, 0.0)
    assert due(ledger, {"b": Stamp(5, 2, 8)}, 1.0) == ["b"]
    ledger.gone("b")
    assert (ledger.vanished, ledger.waiting) == (2, 0)


def test_unreadable_is_tried_ever_less_often_until_timeout(ledger: Ledger) -> None:
    """Tries double their distance, the last is at the timeout, and a change starts anew."""
    files = {"a": Stamp(5, 1, 7)}
    tried = []
    now, given_up = 0.0, False
    while not given_up:
        if due(ledger, files, now):
            tried.append(now)
            given_up = ledger.unreadable("a", now)
        now += 0.5
    assert tried == [1.0, 2.0, 4.0, 8.0, 10.0]

    ledger.taken("a", files["a"])  # given on as an error
    assert due(ledger, files, 50.0) == []
    due(ledger, {"a": Stamp(6, 2, 7)}, 51.0)
    assert due(ledger, {"a": Stamp(6, 2, 7)}, 52.0) == ["a"]
    assert not ledger.unreadable("a", 52.0)


def test_empty_look_forgets_nothing(ledger: Ledger) -> None:
    """A share that is not mounted looks like an empty folder; what was taken is not taken again."""
    files = {"a": Stamp(5, 1, 7), "b": Stamp(5, 2, 8)}
    ledger.skip(files, files.get)
    assert due(ledger, {}, 0.0) == []
    due(ledger, files, 1.0)
    assert due(ledger, files, 3.0) == []


def test_taken_file_the_system_does_not_describe(ledger: Ledger) -> None:
    """A share that lists a taken file but does not describe it for a while makes it no new part."""
    ledger.skip(["a"], {"a": Stamp(5, 1, 7)}.get)
    due(ledger, {"a": UNKNOWN}, 0.0)
    assert due(ledger, {"a": UNKNOWN}, 5.0) == []
    due(ledger, {"a": Stamp(5, 1, 7)}, 6.0)
    assert due(ledger, {"a": Stamp(5, 1, 7)}, 9.0) == []


def test_failed_look_changes_nothing(ledger: Ledger) -> None:
    """A look that ends in an error leaves what is taken and what is waiting as it was."""

    def half():
        yield "a"
        raise OSError("the share is gone")

    files = {"a": Stamp(5, 1, 7), "b": Stamp(5, 2, 8), "c": Stamp(5, 3, 9)}
    ledger.skip(["a", "b"], files.get)
    due(ledger, files, 0.0)
    with pytest.raises(OSError, match="share"):
        ledger.look(half(), files.get, 0.5)
    assert due(ledger, files, 1.0) == ["c"]
    assert ledger.vanished == 0


def test_deleted_files_are_forgotten(ledger: Ledger) -> None:
    """What a folder no longer holds takes no memory: a year of deleted parts adds up to nothing."""
    for day in range(100):
        files = {f"{day}-{n}": Stamp(5, day, 1000 * day + n) for n in range(10)}
        ledger.skip(files, files.get)
        due(ledger, files, float(day))
    assert len(ledger._taken) == 10


def test_many_taken_files_take_turns(ledger: Ledger) -> None:
    """Of 20,000 taken files a look asks for the stamps of a share, and for each one in time."""
    asked: list[str] = []
    stamps = {f"{n}.png": Stamp(5, n, n + 1) for n in range(20_000)}

    def stamp_of(name: str) -> Stamp | None:
        asked.append(name)
        return stamps[name]

    ledger.skip(stamps, stamps.get)
    ledger.look(stamps, stamp_of, 0.0)
    assert 0 < len(asked) < 6000
    for _ in range(4):
        ledger.look(stamps, stamp_of, 0.0)
    assert set(asked) == set(stamps)


def test_memory_of_taken_files(ledger: Ledger) -> None:
    """20,000 taken files take less than 3 MB (150 bytes each), and 6 MB during a look."""

    def names() -> Iterator[str]:
        return (f"2024/line-3/camera-1/part-{n:07d}.png" for n in range(20_000))

    def stamp_of(name: str) -> Stamp:
        number = int(name[-11:-4])
        return Stamp(2**20 + number, 10**18 + number, 2**33 + number)

    tracemalloc.start()
    try:
        ledger.skip(names(), stamp_of)
        assert ledger.look(names(), stamp_of, 0.0) == []
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3e6
    assert peak < 6e6
