"""Group commit: one flush for all that wait, the right answer to each, and nothing promised that was not flushed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import Histogram

from service.journal import writer as module
from service.journal.journal import SqliteJournal
from service.journal.room import Marks
from service.journal.writer import Writer
from service.ports import (
    Conflict,
    JournalBroken,
    JournalBusy,
    JournalError,
    JournalFull,
    JournalUnavailable,
    Message,
    Receipt,
)
from tests.gridgov import until
from tests.unit.messages import message
from tests.unit.test_journal import everything, kind

PATIENCE = 20.0  # for another thread of ours; only a hang uses it up


class Gate(SqliteJournal):
    """A real journal whose appends wait at a gate, and can be told to fail."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, limit=1 << 24, flush=False)
        self.open = threading.Event()
        self.arrived = threading.Semaphore(0)  # one for every group that has come to the gate
        self.groups: list[int] = []  # submissions in each group
        self.errors: list[Exception] = []  # raised by the next appends

    def append(self, submissions: Sequence[Sequence[Message]]) -> list[list[Receipt | Conflict] | JournalFull]:
        self.arrived.release()
        assert self.open.wait(PATIENCE)
        self.groups.append(len(submissions))
        if self.errors:
            raise self.errors.pop(0)
        return super().append(submissions)

    def await_group(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE)


class Desk:
    """A writer, and clients that submit to it each on its own thread."""

    def __init__(self, journal: Gate, queue: int) -> None:
        self.journal = journal
        self.broken = threading.Semaphore(0)
        self.seconds = Histogram("seconds", "Group commits.", registry=None)
        self.writer = Writer(journal, queue=queue, seconds=self.seconds, broken=self.broken.release)
        self.clients = ThreadPoolExecutor(64)

    def submit(self, *messages: Message) -> Future[list[Receipt | Conflict]]:
        """Submit from another thread; returns once it stands in the queue."""
        waiting = len(self.writer._waiting)
        future = self.clients.submit(self.writer.submit, messages)
        until(lambda: len(self.writer._waiting) > waiting or future.done(), "it waits")
        return future

    def hold(self) -> Future[list[Receipt | Conflict]]:
        """Submit a first message and have it wait at the gate, so that what follows gathers behind it."""
        first = self.clients.submit(self.writer.submit, [message("first")])
        self.journal.await_group()
        return first


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    yield made
    made.open.set()


@pytest.fixture
def desk(journal: Gate) -> Iterator[Desk]:
    made = Desk(journal, queue=64)
    yield made
    journal.open.set()
    made.clients.shutdown()


def failure(future: Future[list[Receipt | Conflict]]) -> BaseException | None:
    return future.exception(PATIENCE)


def answers(future: Future[list[Receipt | Conflict]]) -> list[str]:
    return [kind(answer) for answer in future.result(PATIENCE)]


def test_what_waits_together_is_flushed_together(desk: Desk, journal: Gate) -> None:
    first = desk.hold()
    others = [desk.submit(message(f"r-{number}")) for number in range(40)]

    journal.open.set()

    assert [answers(future) for future in [first, *others]] == [["new"]] * 41
    assert journal.groups == [1, 40]
    assert len(everything(journal)) == 41


def test_whoever_was_served_is_waited_for_as_they_may_ask_again(
    desk: Desk, journal: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_WRITES", float("inf"))
    monkeypatch.setattr(module, "GATHER_SECONDS", PATIENCE)
    first = desk.hold()
    others = [desk.submit(message(f"r-{number}")) for number in range(2)]

    journal.open.set()
    first.result(PATIENCE)
    again = desk.clients.submit(desk.writer.submit, [message("again")])

    assert [answers(future) for future in [*others, again]] == [["new"]] * 3
    assert journal.groups == [1, 3]


def test_whoever_does_not_come_again_keeps_nobody_waiting(desk: Desk, journal: Gate) -> None:
    first = desk.hold()
    others = [desk.submit(message(f"r-{number}")) for number in range(2)]

    journal.open.set()

    assert [answers(future) for future in [first, *others]] == [["new"]] * 3
    assert answers(desk.submit(message("later"))) == ["new"]
    assert journal.groups == [1, 2, 1]


def test_everybody_gets_the_answer_to_what_they_sent(desk: Desk, journal: Gate) -> None:
    desk.hold()
    futures = [
        desk.submit(message("a"), message("b")),
        desk.submit(message("a"), message("b", value=b"[]"), message("c")),
        desk.submit(),
        desk.submit(message("d")),
    ]

    journal.open.set()

    assert [answers(future) for future in futures] == [["new", "new"], ["duplicate", "conflict", "new"], [], ["new"]]
    assert [answer.report_id for answer in futures[1].result()] == ["a", "b", "c"]


def test_nobody_is_answered_before_the_flush(desk: Desk, journal: Gate) -> None:
    first = desk.hold()
    second = desk.submit(message("second"))

    assert not first.done()
    assert not second.done()
    assert everything(journal) == []
    journal.open.set()
    assert answers(second) == ["new"]


def test_a_group_is_bounded_but_for_one_large_submission(
    desk: Desk, journal: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_MESSAGES", 5)
    desk.hold()
    sizes = {"a": 3, "b": 3, "c": 9, "d": 1}
    futures = [desk.submit(*[message(f"{name}-{n}") for n in range(size)]) for name, size in sizes.items()]

    journal.open.set()

    assert [len(answers(future)) for future in futures] == [3, 3, 9, 1]
    assert journal.groups == [1, 1, 1, 1, 1]


def test_a_full_queue_refuses_at_once(journal: Gate) -> None:
    desk = Desk(journal, queue=2)
    desk.hold()
    waiting = [desk.submit(message(f"r-{number}")) for number in range(2)]

    with pytest.raises(JournalBusy):
        desk.writer.submit([message("one too many")])

    journal.open.set()
    assert [answers(future) for future in waiting] == [["new"], ["new"]]
    assert {one.report_id for one in everything(journal)} == {"first", "r-0", "r-1"}
    desk.clients.shutdown()


def test_a_submission_without_room_is_refused_alone(desk: Desk, journal: Gate) -> None:
    SqliteJournal.append(journal, [[message("known")]])
    desk.hold()
    journal.room = Marks(journal.directory, 1)  # no room for anything new
    known, new = desk.submit(message("known")), desk.submit(message("new"), message("known"))

    journal.open.set()

    assert isinstance(failure(new), JournalFull)
    assert answers(known) == ["duplicate"]
    assert [one.report_id for one in everything(journal)] == ["known"]
    assert desk.writer.alive


def test_an_error_goes_to_the_whole_group_and_to_nobody_else(desk: Desk, journal: Gate) -> None:
    journal.errors = [JournalUnavailable("locked")]
    first = desk.hold()
    others = [desk.submit(message(f"r-{number}")) for number in range(3)]

    journal.open.set()

    assert isinstance(failure(first), JournalUnavailable)
    assert [answers(future) for future in others] == [["new"]] * 3
    assert desk.writer.error is None


def test_what_passes_by_itself_is_found_to_have_passed_although_nobody_posts(
    desk: Desk, journal: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    journal.open.set()
    journal.errors = [JournalUnavailable("locked"), JournalUnavailable("locked")]

    assert isinstance(failure(desk.submit(message("r-1"))), JournalUnavailable)
    for _ in range(3):  # the group itself, one probe in vain, one that goes well
        journal.await_group()

    until(lambda: desk.writer.error is None, "the writer finds out")
    assert everything(journal) == []


def test_room_that_comes_back_is_found_although_nobody_posts(
    desk: Desk, journal: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    journal.open.set()
    journal.room = Marks(journal.directory, 1)
    assert isinstance(failure(desk.submit(message("r-1"))), JournalFull)
    with pytest.raises(JournalFull):
        journal.probe()
    assert journal.closed_to_new

    journal.room.limit = 1 << 24

    until(lambda: desk.writer.error is None and not journal.closed_to_new, "the writer finds out")


def test_a_write_under_way_tells_how_long_it_has_taken(desk: Desk, journal: Gate) -> None:
    assert desk.writer.busy_seconds == 0
    first = desk.hold()
    until(lambda: desk.writer.busy_seconds > 0, "it is under way")

    journal.open.set()
    first.result(PATIENCE)

    until(lambda: desk.writer.busy_seconds == 0, "it is done")


def test_a_broken_journal_is_told_to_all_that_wait_and_ends_the_writer_once(desk: Desk, journal: Gate) -> None:
    desk.hold()
    group = [desk.submit(message(f"r-{number}")) for number in range(5)]
    journal.errors = []
    original = journal.groups

    def break_the_second(submissions: Sequence[Sequence[Message]]) -> list[list[Receipt | Conflict] | JournalFull]:
        original.append(len(submissions))
        raise JournalBroken("I/O error")

    journal.append = break_the_second  # type: ignore[method-assign]
    journal.open.set()

    assert [type(failure(future)) for future in group] == [JournalBroken] * 5
    assert desk.broken.acquire(timeout=PATIENCE)
    assert not desk.writer.alive
    assert not desk.broken.acquire(blocking=False)
    assert original == [1, 5]


def test_who_comes_after_the_journal_broke_is_refused_at_once(desk: Desk, journal: Gate) -> None:
    journal.errors = [JournalBroken("I/O error")]
    first = desk.hold()
    behind = desk.submit(message("behind"))  # in the queue while the group before it breaks the journal
    journal.open.set()
    assert isinstance(failure(first), JournalBroken)

    with pytest.raises(JournalBroken):
        desk.writer.submit([message("late")])

    assert isinstance(failure(behind), JournalBroken)


def test_an_error_that_nobody_foresaw_does_not_leave_a_dead_writer_behind_in_silence(desk: Desk, journal: Gate) -> None:
    journal.errors = [RuntimeError("a bug")]
    first = desk.hold()

    journal.open.set()

    assert isinstance(failure(first), JournalError)
    assert desk.broken.acquire(timeout=PATIENCE)


def test_who_waits_too_long_is_told_so_and_not_written_behind_their_back(
    desk: Desk, journal: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.hold()
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)

    with pytest.raises(JournalUnavailable):
        desk.writer.submit([message("given up")])
    monkeypatch.undo()
    last = desk.submit(message("last"))
    journal.open.set()

    assert answers(first) == ["new"]
    assert answers(last) == ["new"]
    assert [one.report_id for one in everything(journal)] == ["first", "last"]


def test_every_group_commit_is_timed(desk: Desk, journal: Gate) -> None:
    desk.hold()
    futures = [desk.submit(message(f"r-{number}")) for number in range(3)]
    journal.open.set()
    for future in futures:
        future.result(PATIENCE)
    desk.submit(message("another")).result(PATIENCE)

    count = next(s.value for m in desk.seconds.collect() for s in m.samples if s.name == "seconds_count")
    assert count == len(journal.groups) == 3
