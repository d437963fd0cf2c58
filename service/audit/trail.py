"""The audit log's files: JSON lines that several processes append to, each line naming the one before by its hash.

Web, relay and command line write one chain. Whoever appends holds an `flock` for as long as it takes, reads where the
chain ends, and returns once the disk has the lines: events are few, and one order of all of them is worth more than the
milliseconds. `head.json` tells the last line a second time, so that lines cut off at the end are missed, too.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from schemas.times import format_time
from service.files import flush_directory, write_whole

FILE_BYTES = 8 << 20  # then the next file is begun
DAY_MS = 86_400_000
NOTHING = "0" * 64  # what the first line of all names as the one before it
CURRENT = "audit.jsonl"
_TAIL_BYTES = 1 << 16  # of a file, in which its last line surely is


class What(StrEnum):
    """What is told."""

    AUTHENTICATION = "authentication"  # somebody without valid credentials
    AUTHORISATION = "authorisation"  # somebody known, who may not do that
    KEY = "key"  # made, rotated, revoked
    REQUEUE = "requeue"
    SALVAGE = "salvage"
    MOVE = "move"
    ERASE = "erase"
    REJECTS_VIEWED = "rejects_viewed"
    REJECTS_REPLAYED = "rejects_replayed"
    PRUNED = "pruned"  # old files were deleted: up to which line
    TORN = "torn"  # the line before this one was not written whole: its writer died


class Result(StrEnum):
    """What came of it."""

    REFUSED = "refused"
    BEGUN = "begun"  # about to be done; a line with the outcome follows, unless the process dies
    DONE = "done"
    FAILED = "failed"


class Event(NamedTuple):
    """One thing that happened. Ids and numbers only: never a secret, a body or a person other than who did it."""

    at: int  # Unix milliseconds
    who: str
    origin: str  # an address, or the terminal
    what: What
    result: Result
    about: Mapping[str, Any]


class Place(NamedTuple):
    """A line of the chain."""

    seq: int
    sha256: str


START = Place(0, NOTHING)  # before the first line


class AuditError(Exception):
    """The event could not be written."""


class Trail:
    """The audit log in `directory` (0700, files 0600), made there with the first event.

    `keep_days` is how long a line stays at least; the files that hold only older ones are deleted, which is told.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_days: int,
        file_bytes: int = FILE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self._current, self._head = directory / CURRENT, directory / "head.json"
        self._keep_ms, self._file_bytes, self._clock = keep_days * DAY_MS, file_bytes, clock

    def write(self, *events: Event) -> None:
        """Append, in this order; on the disk when this returns. Raises `AuditError`, and then none of them is there."""
        try:
            with self.alone():
                self._write(events)
        except OSError as error:
            raise AuditError(f"{self.directory}: {error.strerror}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes meanwhile. Raises OSError."""
        for one in (self.directory.parent, self.directory):  # `parents` would make it for everybody to look into
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _owned_as(lock, self.directory)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, events: Sequence[Event]) -> None:
        last, torn = self._end()
        if torn:
            about = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
            events = (self._own(What.TORN, about), *events)
        elif self._size() >= self._file_bytes:
            self._rotate(last)
        old = self._outlived()
        if old:
            upto = _last_line(old[-1])[0]
            events = (*events, self._own(What.PRUNED, upto._asdict()))
        lines = []
        for event in events:
            line = _line(event, last)
            last = Place(last.seq + 1, hashlib.sha256(line).hexdigest())
            lines.append(line + b"\n")
        self._append((b"\n" if torn else b"") + b"".join(lines), last)
        for path in old:
            path.unlink()

    def _end(self) -> tuple[Place, bytes]:
        """The last line, and what stands behind it without an end."""
        last, torn = _last_line(self._current)
        return max(last, self.head(), key=lambda place: place.seq), torn

    def head(self) -> Place:
        """The last line as it was noted beside the log. A note that cannot be read is none."""
        try:
            noted = orjson.loads(self._head.read_bytes())
            return Place(int(noted["seq"]), str(noted["sha256"]))
        except (FileNotFoundError, ValueError, TypeError, LookupError):
            return START

    def files(self) -> list[Path]:
        """All there are, oldest first."""
        return [*sorted(self.directory.glob("audit-*.jsonl")), *([self._current] if self._current.exists() else [])]

    def _own(self, what: What, about: Mapping[str, Any]) -> Event:
        return Event(int(self._clock() * 1000), "gridgov", "-", what, Result.DONE, about)

    def _size(self) -> int:
        return self._current.stat().st_size if self._current.exists() else 0

    def _rotate(self, last: Place) -> None:
        self._current.rename(self.directory / f"audit-{last.seq:012d}.jsonl")
        flush_directory(self.directory)

    def _outlived(self) -> list[Path]:
        """The oldest files, of which every line has been kept long enough."""
        before, old = format_time(int(self._clock() * 1000) - self._keep_ms), []
        for path in self.files():
            at = _last_at(path)
            if path == self._current or at is None or at >= before:
                break
            old.append(path)
        return old

    def _append(self, data: bytes, last: Place) -> None:
        """All of it, and the note of its last line, or nothing: who is told that it failed will write it again."""
        new = not self._current.exists()
        handle = os.open(self._current, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _owned_as(handle, self.directory)
            before = os.fstat(handle).st_size
            try:
                _write(handle, data)
                if new:
                    flush_directory(self.directory)
                write_whole(self._head, orjson.dumps(last._asdict()))
            except OSError:
                os.ftruncate(handle, before)  # a full disk takes the half of a line
                raise
        finally:
            os.close(handle)


def _write(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def _owned_as(handle: int, directory: Path) -> None:
    """What root makes on the command line must stay writable for the service."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _line(event: Event, before: Place) -> bytes:
    return orjson.dumps(
        {
            "seq": before.seq + 1,
            "at": format_time(event.at),
            "who": event.who,
            "from": event.origin,
            "what": event.what,
            "result": event.result,
            **({"about": event.about} if event.about else {}),
            "prev": before.sha256,
        }
    )


def _tail(path: Path) -> tuple[bytes, bytes]:
    """The last whole line of a file, and what stands behind it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            *whole, rest = file.read().split(b"\n")
    except FileNotFoundError:
        return b"", b""
    return (whole[-1] if whole else b""), rest


def _last_line(path: Path) -> tuple[Place, bytes]:
    line, rest = _tail(path)
    try:
        return Place(int(orjson.loads(line)["seq"]), hashlib.sha256(line).hexdigest()), rest
    except (ValueError, TypeError, LookupError):  # none, or none of ours: then what was noted beside it holds
        return START, rest


def _last_at(path: Path) -> str | None:
    try:
        return str(orjson.loads(_tail(path)[0])["at"])
    except (ValueError, TypeError, LookupError):
        return None
