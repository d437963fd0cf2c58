"""A journal that cannot be trusted is set aside, never deleted; what is still readable is brought into the new one."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from schemas import event
from service.files import flush_directory, one_at_a_time
from service.journal.journal import SqliteJournal
from service.journal.sqlite import JournalCorrupt, columns_of, rows_of
from service.ports import Conflict, Inbox, JournalError, JournalFull, Message

log = logging.getLogger(__name__)

FILES = ("journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm")
_MESSAGE = "sender, report_id, case_id, topic, headers, value, received_at, {fact}"


def opened(directory: Path, *, limit: int) -> SqliteJournal:
    """The journal in `directory`, checked; a corrupt one is set aside first and a new one made, under a new id.

    Accepting goes on at once; what the old one held waits for `gridgov journal salvage`. A journal that cannot be read
    at this moment is none of that: `JournalBroken`, and another start may find it sound.
    """
    try:
        with one_at_a_time(directory, but_shared=True):  # nobody opens what another web process is setting aside
            return _checked(directory, limit)
    except JournalCorrupt:
        with one_at_a_time(directory):
            return _opened_anew(directory, limit)


def _opened_anew(directory: Path, limit: int) -> SqliteJournal:
    try:
        return _checked(directory, limit)  # another web process may have set it aside meanwhile
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
    there = [name for name in FILES if (directory / name).exists()]
    for name in there:
        os.link(directory / name, aside / name)
    flush_directory(aside)
    for name in reversed(there):  # the database last: a WAL beside a new one would be emptied, and its copy with it
        (directory / name).unlink()
    flush_directory(directory)
    return aside


@dataclass(slots=True)
class Salvaged:
    """How many messages were brought back, known already, of a new report under their id, no report any more."""

    brought: int = 0
    known: int = 0
    conflicts: int = 0
    damaged: int = 0


def salvage(aside: Path, journal: Inbox) -> Salvaged:
    """Accept again every readable message that Kafka had not acknowledged.

    Messages keep their report_id and get a new seq. Safe to repeat. Raises `JournalError` when the new journal fails.
    """
    done = Salvaged()
    for row in _unsettled(aside / FILES[0]):
        try:
            message = _message(row)
        except (TypeError, ValueError) as error:  # SQLite has no checksums: what was overwritten may still be a row
            done.damaged += 1
            log.error("salvaged row is no report", extra={"report_id": str(row[1])[:64], "error": str(error)})
            continue
        [answers] = journal.append([[message]])
        if isinstance(answers, JournalFull):
            raise answers
        [answer] = answers
        if isinstance(answer, Conflict):  # its sender was told nothing of it and has used the id for something else
            done.conflicts += 1
            log.error("salvaged report's id is taken", extra={"report_id": message.report_id})
        elif answer.duplicate:
            done.known += 1
        else:
            done.brought += 1
    (aside / "salvaged").touch()
    return done


def _unsettled(path: Path) -> Iterator[tuple[Any, ...]]:
    for table, condition in (("messages", "settled=0"), ("parked", "1")):
        fact = "fact" if "fact" in columns_of(path, table) else "NULL"  # a journal of the first version has none
        yield from rows_of(path, table, "seq", _MESSAGE.format(fact=fact), condition)


def _message(row: tuple[Any, ...]) -> Message:
    sender, report_id, case_id, topic, headers, value, received_at, fact = row
    return Message(
        sender=sender,
        report_id=report_id,
        fingerprint=event.fingerprint(value),
        case_id=case_id,
        topic=topic,
        headers=_packed(headers),
        value=value,
        received_at=received_at,
        fact=_whole(fact),
    )


def _whole(fact: bytes | None) -> bytes | None:
    """None where it was overwritten: what it says is in the message too, but for whose cases its sender speaks of."""
    with suppress(ValueError, TypeError):
        return fact if isinstance(orjson.loads(fact or b""), list) else None
    return None


def _packed(headers: bytes) -> bytes:
    """A journal of the first version kept them as a JSON object."""
    return "\n".join(orjson.loads(headers).values()).encode() if headers.startswith(b"{") else headers
