"""What the test-only launcher does to a gridgov process: faults of disk and clock, and protections taken away.

Chosen by name in the environment (`sabotage(…)` makes that environment), applied before the process does anything.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import orjson

from tests.edge import sabotages as edge

LAUNCHER = Path(__file__).parent / "launch"
LONGEST_WAIT = 8.0  # seconds, below the writer's own patience


def sabotage(**chosen: dict[str, Any]) -> dict[str, str]:
    """The environment in which web and relay are sabotaged: name → its options."""
    assert chosen.keys() <= SABOTAGES.keys(), chosen
    return {"PYTHONPATH": str(LAUNCHER), "SABOTAGE": orjson.dumps(chosen).decode()}


def begin(wanted: str, process: str) -> None:
    """Sabotage this process, `web` or `relay`."""
    for name, options in orjson.loads(wanted).items():
        where, how = SABOTAGES[name]
        if process in where:
            how(**options)


# ---- faults ----


def nothing() -> None:
    """What a sound disk does to a flush or a read."""


class _Disk(apsw.VFS):
    """The disk under every database. `flush` and `read` are asked first: what they raise, SQLite meets.

    After a flush that failed, nothing written since the last one is there: a failed fsync leaves the kernel's pages
    clean and the disk without them, here at once and not after an hour.
    """

    def __init__(self, *, flush: Callable[[], None] = nothing, read: Callable[[], None] = nothing) -> None:
        super().__init__("sabotaged", "", makedefault=True)
        self._flush, self._read = flush, read
        _disks.append(self)  # SQLite does not keep it alive

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(name, flags, self._flush, self._read)


_disks: list[_Disk] = []


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], flush: Callable[[], None], read: Callable[[], None]) -> None:
        super().__init__("unix", name, flags)
        self._flush, self._read = flush, read
        self._before: list[tuple[int, bytes]] = []  # what stood where something was written since the last flush

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._read()
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        there = max(0, min(len(data), self.xFileSize() - offset))
        self._before.append((offset, super().xRead(there, offset).ljust(len(data), b"\0")))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self._flush()
        except apsw.IOError:
            for offset, data in reversed(self._before):
                super().xWrite(data, offset)
            raise
        finally:
            self._before.clear()
        super().xSync(flags)


def failing_flushes(share: float, most: int, seed: int, log: str) -> None:
    """This share of the flushes fails with an I/O error, `most` times in all; a byte in `log` for each that did."""
    _Disk(flush=_failing(share, most, seed, Path(log)))


def failing_reads(most: int, log: str) -> None:
    """The first reads fail with an I/O error; a byte in `log` for each."""
    _Disk(read=_failing(1, most, 0, Path(log)))


def _failing(share: float, most: int, seed: int, log: Path) -> Callable[[], None]:
    log.touch()
    dice = random.Random(seed + log.stat().st_size)

    def fail() -> None:
        if dice.random() < share and log.stat().st_size < most:
            with log.open("ab") as file:
                file.write(b"!")
            raise apsw.IOError("input/output error, on purpose")

    return fail


def slow_flushes(seconds: float) -> None:
    """Every flush takes so long."""
    _Disk(flush=lambda: time.sleep(seconds))


def false_clock(file: str) -> None:
    """The wall clock is off by the seconds that `file` holds at that moment; the monotonic one is right."""
    honest, path = time.time, Path(file)
    time.time = lambda: honest() + float(path.read_text() or 0)


def dies(after: bool, share: float, most: int, seed: int, log: str) -> None:
    """The process ends right before or right after this share of its commits, `most` times in all.

    `log` gets a line for each: the ids of the reports that were in it for the first time. `log`.again gets those that
    the journal does not know when they come again to a later process.
    """
    from service.journal.journal import SqliteJournal
    from service.ports import Message

    book, returned = Path(log), Path(f"{log}.again")
    book.touch()
    returned.touch()
    lines = book.read_text().splitlines()
    caught = set(" ".join(lines).split())
    dice, careful = random.Random(f"{seed} {len(lines)}"), SqliteJournal.append

    def append(self: SqliteJournal, submissions: Sequence[Sequence[Message]]) -> Any:
        messages = [message for submission in submissions for message in submission]
        new = [one.report_id for one in messages if self.receipt(one.sender, one.report_id) is None]
        if again := caught.intersection(new):
            with returned.open("a") as file:
                file.write(" ".join(again) + "\n")
        if not new or dice.random() >= share or len(lines) >= most:
            return careful(self, submissions)
        if after:
            careful(self, submissions)
        with book.open("a") as file:
            file.write(" ".join(new) + "\n")
        os._exit(1)

    SqliteJournal.append = append  # type: ignore[assignment, method-assign]


def erring_client(share: float, most: int, seed: int, log: str) -> None:
    """This share of the records that the Kafka client takes meets a mistake of its own, `most` times in all.

    A byte in `log` for each.
    """
    from service.broker.batches import Batch

    path, dice, add = Path(log), random.Random(seed), Batch.add
    path.touch()

    def erring(self: Any, *record: Any) -> Any:
        if path.stat().st_size < most and dice.random() < share:
            with path.open("ab") as file:
                file.write(b"!")
            raise TypeError("a mistake of the client, on purpose")
        return add(self, *record)

    Batch.add = erring  # type: ignore[assignment,method-assign]


# ---- protections taken away ----


def credulous() -> None:
    """Believes that a transaction which failed went well."""
    from service.journal.journal import SqliteJournal
    from service.ports import JournalBroken, Message, Receipt, State

    careful = SqliteJournal.append

    def append(self: SqliteJournal, submissions: Sequence[Sequence[Message]]) -> Any:
        try:
            return careful(self, submissions)
        except JournalBroken:
            return [
                [Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING) for m in submission]
                for submission in submissions
            ]

    SqliteJournal.append = append  # type: ignore[assignment, method-assign]


def unflushed() -> None:
    """Commits are answered before the disk has them."""
    from service.journal import sqlite

    connect = sqlite._connect
    sqlite._connect = lambda path, *, flush: connect(path, flush=False)


def ungrouped() -> None:
    """One report per transaction."""
    from service.journal import writer

    writer.GROUP_MESSAGES = 1


def suspicious() -> None:
    """Takes a journal that cannot be read at this moment for a corrupt one."""
    from service.journal import salvage
    from service.ports import JournalBroken

    vars(salvage)["JournalCorrupt"] = JournalBroken


def no_ballast() -> None:
    """Nothing is set aside for a full disk."""
    from service.journal.ballast import Ballast

    Ballast.restore = lambda self: None  # type: ignore[method-assign]


def overlooks() -> None:
    """Does not see that another file has taken the journal's place."""
    from service.journal.journal import SqliteJournal

    SqliteJournal.replaced = lambda self: False  # type: ignore[method-assign]


def shares() -> None:
    """Serves where another service serves already."""
    from contextlib import nullcontext

    from service.cli import serve

    vars(serve)["only_one"] = lambda *_: nullcontext()


def by_the_clock() -> None:
    """Takes the time stamp of a pulse for its age."""
    from service.relay import pulse

    pulse.Listener.pulseless = (  # type: ignore[method-assign]
        lambda self: self._path.exists() and time.time() - self._path.stat().st_mtime > pulse.PULSELESS_SECONDS
    )


def no_reserve() -> None:
    """The journal takes all the disk there is."""
    from service.journal.room import Marks

    Marks.look = lambda self, db: False  # type: ignore[method-assign]


def never_reopens() -> None:
    """Once past its mark, the journal stays closed."""
    from service.journal import room

    room.REOPEN_MARK = 0.0


def answers_after_kafka() -> None:
    """No journal to rely on: the answer waits until Kafka has the report."""
    from service.journal.writer import Writer
    from service.ports import Conflict, JournalUnavailable, Message, Receipt, State

    prompt = Writer.submit

    def submit(self: Writer, messages: Sequence[Message]) -> list[Receipt | Conflict]:
        answers = prompt(self, messages)
        end = time.monotonic() + LONGEST_WAIT
        for message in messages:
            while True:
                found = self._journal.receipt(message.sender, message.report_id)
                if found is not None and found.state is State.SETTLED:
                    break
                if time.monotonic() > end:
                    raise JournalUnavailable("Kafka has not answered")
                threading.Event().wait(0.005)
        return answers

    Writer.submit = submit  # type: ignore[method-assign]


def tidies_at_once() -> None:
    """Old receipts are looked for every second, not every minute."""
    from service.relay import chores

    chores.TIDY_SECONDS = 1.0


def blames_the_record() -> None:
    """Takes a time of day that Kafka refuses for a fault of the record."""
    from kafka import errors

    from service.broker import publisher
    from service.ports import ParkReason

    publisher.RECORD_FAULTS[errors.InvalidTimestampError] = ParkReason.RECORD_REFUSED


def blames_the_record_for_mistakes() -> None:
    """Takes a mistake of the Kafka client for a fault of the record."""
    from service.broker import publisher
    from service.ports import ParkReason

    publisher.RECORD_FAULTS[TypeError] = ParkReason.RECORD_REFUSED
    publisher.SPLIT_TO_ONE += (TypeError,)  # as if no other could be to blame


def forgetful() -> None:
    """Does not recognise a report that comes again."""
    from tests.faults import unprotected

    unprotected.dedupe()


def hasty() -> None:
    """A key file that cannot be read counts as one without keys."""
    from service.intake.keys import Keys, KeysError

    careful = Keys._refresh

    def refresh(self: Keys) -> None:
        try:
            careful(self)
        except KeysError:
            self._keys = {}

    Keys._refresh = refresh  # type: ignore[method-assign]


SABOTAGES: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "failing_flushes": (("web",), failing_flushes),
    "failing_reads": (("web",), failing_reads),
    "slow_flushes": (("web", "relay"), slow_flushes),
    "false_clock": (("web", "relay"), false_clock),
    "step_of_run": (("run",), false_clock),
    "dies": (("web",), dies),
    "erring_client": (("relay",), erring_client),
    "credulous": (("web",), credulous),
    "unflushed": (("web",), unflushed),
    "ungrouped": (("web",), ungrouped),
    "suspicious": (("web",), suspicious),
    "no_ballast": (("relay",), no_ballast),
    "overlooks": (("relay",), overlooks),
    "blind_web": (("web",), overlooks),
    "shares": (("web",), shares),
    "by_the_clock": (("run",), by_the_clock),
    "no_reserve": (("web",), no_reserve),
    "never_reopens": (("web",), never_reopens),
    "answers_after_kafka": (("web",), answers_after_kafka),
    "tidies_at_once": (("relay",), tidies_at_once),
    "blames_the_record": (("relay",), blames_the_record),
    "blames_the_record_for_mistakes": (("relay",), blames_the_record_for_mistakes),
    "forgetful": (("web",), forgetful),
    "hasty": (("web",), hasty),
    **edge.SABOTAGES,
}
