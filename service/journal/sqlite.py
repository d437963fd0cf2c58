"""How gridgov uses SQLite: one writer at a time across processes, flushed, short reads. Only here is apsw known."""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw

from service.journal.store import JournalMissing, RowRefused
from service.ports import JournalBroken, JournalError, JournalFull, JournalUnavailable

log = logging.getLogger(__name__)

OLDEST_SAFE = (3, 51, 3)  # before it, the WAL-reset bug can lose committed rows when processes share a file
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs"}
_VOLATILE = {"tmpfs", "ramfs", "overlay"}

BUSY_MS, READER_MS = 5000, 100  # patience with whoever holds the file; with a reader, while others wait to write
_CHUNK = 500  # rows read at a time from a damaged file
_FURTHEST = 1 << 24  # where to stop looking for rows when the file does not tell

Db = apsw.Connection


class JournalCorrupt(JournalBroken):
    """The file itself is damaged: it will not be better after a restart, as after an I/O error it may."""


def mapped(error: apsw.Error) -> JournalError:
    """Ours for SQLite's: what the caller may do about it.

    Full and busy pass by themselves. Everything else (I/O error, corrupt, not a database, read-only) means that the
    file cannot be trusted: SQLite carries on silently after a failed fsync, so this process must not.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, apsw.FullError):
        return JournalFull(text)
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return JournalUnavailable(text)
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return JournalCorrupt(text)
    if isinstance(error, apsw.ConstraintError | apsw.MismatchError | apsw.TooBigError):
        return RowRefused(text)
    return JournalBroken(text)


class Store:
    """One database file in `directory` (0700, files 0600), made there with `schema` if it is missing and `make`.

    An older one, of a version in `upgrades`, is brought to `version` before anything else, in one transaction.

    WAL mode. Writers take an `flock` before `BEGIN IMMEDIATE`: SQLite's own busy handler sleeps and is unfair between
    processes. With `flush` a transaction returns only after the disk has it. Every method may raise `JournalError`.
    A commit copies the WAL into the file once it has `wal_pages`, and everybody waits for that; not where somebody
    calls `checkpoint` sooner.
    """

    LISTED = "SELECT value FROM json_each(?)"

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        schema: str,
        version: int,
        flush: bool,
        upgrades: Mapping[int, str] = MappingProxyType({}),
        wal_pages: int = 1000,
        make: bool = True,
    ) -> None:
        found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if found < OLDEST_SAFE:
            raise JournalBroken(f"SQLite {apsw.sqlite_lib_version()} can lose committed rows; apsw >= 3.51.3 is needed")
        self._path = path = directory / f"{name}.sqlite3"
        if make:
            _make(path)
        try:
            self._inode = path.stat().st_ino
        except FileNotFoundError as error:
            raise JournalMissing(f"there is no {path}") from error
        self._lock_fd = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._wal_pages = wal_pages
        others = _handles(path)
        try:
            self._db = _connect(path, flush=flush)
            self._handle = next(iter(_handles(path) - others), None)
            self._db.wal_autocheckpoint(wal_pages)
            with self.transaction() as db:
                _create(db, schema, version, upgrades)
            self._reader = _connect(path, flush=flush)
        except BaseException as error:
            os.close(self._lock_fd)
            raise (mapped(error) if isinstance(error, apsw.Error) else error) from error

    def among(self, table: str, index: str) -> str:
        """See `Store.among` of `service.journal.store`."""
        return f"{table} INDEXED BY {index}"

    def memo(self, value: int | str) -> int | str:
        """A value as it is: a column without a type takes both."""
        return value

    @contextmanager
    def transaction(self) -> Iterator[Db]:
        """A write transaction; leaving it is the commit, an exception rolls it back."""
        with self._writing, self._alone():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")  # with `flush`, returns after the WAL is flushed to the disk
                except BaseException:
                    _rollback(self._db)
                    raise
            except apsw.Error as error:
                raise mapped(error) from error

    @contextmanager
    def part(self) -> Iterator[Db]:
        """A part of this thread's transaction: an exception takes back what was changed in it, and no more."""
        try:
            with self._db as db:
                yield db
        except apsw.Error as error:
            raise mapped(error) from error

    def read(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query, fetched whole: no read transaction stays open to hold the WAL back."""
        with self._reading:
            try:
                return self._reader.execute(sql, bindings).fetchall()
            except apsw.Error as error:
                raise mapped(error) from error

    def tidy(self, pages: int = 2000) -> None:
        """Fold the WAL into the file and give that many free pages back to the disk; writers wait for it.

        Not while somebody reads on and on (a backup): what is moved would only make the WAL grow.
        """
        if self._empty_wal(READER_MS):
            with self.transaction() as db:
                db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            self._empty_wal(READER_MS)

    def overwrite_freed(self) -> None:
        """From now on, overwrite with zeros whatever a write frees."""
        self._db.pragma("secure_delete", 1)

    def scrub(self) -> None:
        """Leave nothing of what was deleted or changed: no free page in the file, nothing in the WAL.

        Others may be writing: what they free meanwhile is theirs. Raises `JournalUnavailable` while a reader keeps the
        WAL from being emptied.
        """
        while True:
            with self.transaction() as db:
                db.execute("PRAGMA incremental_vacuum(2000)").fetchall()
                if not int(db.pragma("freelist_count")):
                    break
        if not self._empty_wal(BUSY_MS):
            raise JournalUnavailable("the WAL is being read, and not emptied; do it again")

    def checkpoint(self) -> None:
        """Copy the WAL into the file while others write, so that no commit has to stop for it; let a large one end."""
        with self._writing:
            _, pages = self._copy_wal("PASSIVE")
            if pages > self._wal_pages // 4:
                self._flush()  # most of what the next one flushes while all wait
                with self._alone():
                    self._copy_wal("PASSIVE")  # the little that came meanwhile; all is copied, and the next begins anew

    def check(self) -> None:
        """Raise `JournalCorrupt` unless SQLite finds the file sound. O(size)."""
        problems = [row[0] for row in self.read("PRAGMA quick_check(5)")]
        if problems != ["ok"]:
            raise JournalCorrupt("; ".join(problems))

    def close(self) -> None:
        """Close the files; nothing is lost by not doing so."""
        with self._writing, self._reading:
            self._reader.close()
            self._db.close()
            os.close(self._lock_fd)

    def replaced(self) -> bool:
        """Whether another file stands in this one's place, or none: it was moved away, and nobody else sees it."""
        try:
            return self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def still_here(self) -> None:
        """Raise `JournalMissing` or `JournalBroken` when it was replaced: what is written now nobody will read."""
        if self.replaced():
            if not self._path.exists():
                raise JournalMissing(f"{self._path} is gone; put it back, or restart to begin anew")
            raise JournalBroken(f"another file stands in the place of {self._path}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _flush(self) -> None:
        """The file itself, by SQLite's handle. What fails here SQLite is not told again: then it cannot be trusted."""
        try:
            if self._handle is not None:
                os.fdatasync(self._handle)
        except OSError as error:
            raise JournalBroken(f"flushing {self._path}: {error}") from error

    def _empty_wal(self, patience_ms: int) -> bool:
        """Whether it is empty now; a reader that goes on for longer keeps it from being emptied."""
        with self._writing, self._alone():
            self._db.set_busy_timeout(patience_ms)
            try:
                busy, _ = self._copy_wal("TRUNCATE")
            finally:
                self._db.set_busy_timeout(BUSY_MS)
        return not busy

    def _copy_wal(self, how: str) -> tuple[int, int]:
        """Returns whether somebody was in the way, and how many pages the WAL has."""
        try:
            [(busy, pages, _)] = self._db.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        except apsw.Error as error:
            raise mapped(error) from error
        return int(busy), int(pages)  # type: ignore[arg-type]  # numbers


def sizes(db: Db) -> tuple[int, int]:
    """Bytes of pages in use, which a limit should be compared with as the file itself never shrinks; and of free ones,
    which will be used before it grows."""
    pages, free, size = (int(db.pragma(name)) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size, free * size


def rows_of(path: Path, table: str, key: str, columns: str, condition: str) -> Iterator[tuple[Any, ...]]:
    """Every row of a damaged file that can still be read, in order of an integer key from 1 on.

    A span that meets damage is halved until what is left is single rows; those are asked for by their key alone, as the
    end of a span is known only from the row behind it. Minutes, when millions cannot be read.
    """
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    sql = f"SELECT {key}, {columns} FROM {table} NOT INDEXED WHERE {condition} AND {key}"
    many, one = f"{sql}>=? AND {key}<? ORDER BY {key} LIMIT {_CHUNK}", f"{sql}=?"
    spans = [(1, _highest(db, table, key) + 1)]
    while spans:
        low, high = spans.pop()
        try:
            found = (db.execute(one, (low,)) if high - low == 1 else db.execute(many, (low, high))).fetchall()
        except (apsw.Error, UnicodeDecodeError):  # the latter of a text that was overwritten
            middle = (low + high) // 2
            spans += [(middle, high), (low, middle)] if high - low > 1 else []
            continue
        for _, *row in found:
            yield tuple(row)
        if len(found) == _CHUNK:
            spans.append((int(found[-1][0]) + 1, high))  # type: ignore[arg-type]  # an integer key
    db.close()


def columns_of(path: Path, table: str) -> set[str]:
    """The columns of a damaged file's table, as far as that can still be read."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    with suppress(apsw.Error):
        return {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
    return set()


def _highest(db: Db, table: str, key: str) -> int:
    """The highest key there can be, as far as the file still tells."""
    for sql in ("SELECT max(seq) FROM sqlite_sequence", f"SELECT max({key}) FROM {table} NOT INDEXED"):
        with suppress(apsw.Error):
            [(highest,)] = db.execute(sql).fetchall()
            return int(highest or 0)
    return _FURTHEST


def unfit(directory: Path) -> str | None:
    """Why a database must not live in `directory`, as far as its file system tells; None when it may."""
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    device = existing.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").strip().split("\n"):
        mount, _, system = line.partition(" - ")
        kind = system.split()[0]
        if mount.split()[2] != wanted:
            continue
        if kind in _REMOTE or kind.startswith("fuse"):
            return f"{kind}: SQLite's locks and flushes cannot be relied on there; use a local disk"
        if kind in _VOLATILE:
            return f"{kind} does not survive a restart; use a disk or volume, or GRIDGOV_ALLOW_VOLATILE=yes for a test"
    return None


def _make(path: Path) -> None:
    """An empty file, where there is none. Closing a file that this process has open already, through SQLite, would drop
    the locks that SQLite has on it: POSIX locks end with whichever handle is closed first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _connect(path: Path, *, flush: bool) -> Db:
    db = apsw.Connection(str(path), statementcachesize=64)
    db.set_busy_timeout(BUSY_MS)
    if db.pragma("page_count") == 0:
        db.pragma("auto_vacuum", 2)  # incremental; only before the first table, and it writes: a full disk would refuse
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "FULL" if flush else "NORMAL")
    db.pragma("mmap_size", 0)  # an I/O error through a mapping is a SIGBUS, not an error code
    db.pragma("temp_store", 2)
    db.pragma("secure_delete", "fast")  # of what is deleted, leave nothing in a page that is written anyway
    return db


def _handles(path: Path) -> set[int]:
    """Those that this process has of a file. One of ours would end SQLite's locks when it is closed (see `_make`)."""
    found = set[int]()
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # another thread has closed it meanwhile
            if handle.samefile(path):
                found.add(int(handle.name))
    return found


def _create(db: Db, schema: str, version: int, upgrades: Mapping[int, str]) -> None:
    found = int(db.pragma("user_version"))
    if found == 0:
        db.execute(schema)
        found = version
    while found in upgrades:
        log.info("upgrading a database", extra={"from": found})
        db.execute(upgrades[found])
        found += 1
    if found != version:
        raise JournalBroken(f"schema {found}, this version of gridgov knows {version}")
    db.pragma("user_version", version)


def _rollback(db: Db) -> None:
    if db.in_transaction:  # SQLite has already rolled back after some errors
        db.execute("ROLLBACK")
