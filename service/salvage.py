"""A journal that cannot be trusted is set aside, never deleted; what is still readable is brought into the new one."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.journal import UNKNOWN_FINGERPRINT, SqliteJournal
from service.ports import JournalError, JournalFull, Message, Receipt
from service.sqlite import JournalCorrupt, rows_of

log = logging.getLogger(__name__)

FILES = ("journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm")
_MESSAGE = "sender, report_id, case_id, topic, headers, value, received_at"


def opened(directory: Path, *, limit: int) -> SqliteJournal:
    """The journal in `directory`, checked; a corrupt one is set aside first and a new one made, under a new id.

    Accepting goes on at once; what the old one held waits for `gridgov journal salvage`. A journal that cannot be read
    at this moment is none of that: `JournalBroken`, and another start may find it sound.
    """
    try:
        return _checked(directory, limit)
    except JournalCorrupt as broken:
        aside = _set_aside(directory)
        log.critical(
            "journal corrupt, set aside; bring back what it holds with: gridgov journal salvage",
            extra={"error": str(broken), "directory": str(aside)},
        )
        return _checked(directory, limit)


def _checked(directory: Path, limit: int) -> SqliteJournal:
    journal = SqliteJournal(directory, limit=limit)
    try:
        journal.check()
    except JournalError:
        journal.close()
        raise
    return journal


def _set_aside(directory: Path) -> Path:
    aside = directory / f"corrupt-{time.strftime('%Y%m%dT%H%M%S')}"
    aside.mkdir(mode=0o700)
    for name in FILES:
        if (directory / name).exists():
            (directory / name).rename(aside / name)
    return aside


def salvage(aside: Path, journal: SqliteJournal) -> tuple[int, int]:
    """Accept again every readable message that Kafka had not acknowledged: (brought back, known already).

    Messages keep their report_id and get a new seq. Safe to repeat. Raises `JournalError` when the new journal fails.
    """
    brought = known = 0
    for row in _unsettled(aside / FILES[0]):
        [answers] = journal.append([[_message(row)]])
        if isinstance(answers, JournalFull):
            raise answers
        [answer] = answers
        new = isinstance(answer, Receipt) and not answer.duplicate
        brought, known = brought + new, known + (not new)
    (aside / "salvaged").touch()
    return brought, known


def _unsettled(path: Path) -> Iterator[tuple[Any, ...]]:
    yield from rows_of(path, "messages", "seq", _MESSAGE, "settled=0")
    yield from rows_of(path, "parked", "seq", _MESSAGE, "1")


def _message(row: tuple[Any, ...]) -> Message:
    sender, report_id, case_id, topic, headers, value, received_at = row
    return Message(sender, report_id, UNKNOWN_FINGERPRINT, case_id, topic, headers, value, received_at)
