"""How gridgov uses PostgreSQL: connections that are kept, one round trip a write. Only in this package, and in
`service.consumer`, is psycopg known."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue
from typing import Any, cast

import orjson
import psycopg
from psycopg.errors import Diagnostic

from service.journal.postgresql import arrays
from service.journal.postgresql.connection import (
    ANSWER_SECONDS,
    SCHEMA,
    WORK_SECONDS,
    Connection,
    ended,
    opened,
    ours,
    promise_of,
)
from service.journal.postgresql.dialect import numbered
from service.ports import JournalBroken, JournalUnavailable

log = logging.getLogger(__name__)

NAME, LEADER = "gridgov", "gridgov leader"  # what the server calls our sessions
MOST_READERS = 4  # of a process at the same time; the others wait
ROOM_BYTES = 16 << 20  # free on a disk that was full before it is believed to have room: a segment of the server's log
_MAKING = 0x67726964676F7601  # the advisory lock of whoever makes the tables


class Server:
    """One PostgreSQL, its connections made when they are needed and anew after they broke.

    The tables are made with the first one, in a schema of their own. `fence` comes first in every transaction, and
    raises when this process may not write. It keeps the casebook as `service.journal.store.Store` says. Every method
    may raise `JournalError`.
    """

    LISTED = "SELECT value FROM json_array_elements_text(?::json)"

    def __init__(
        self,
        url: str,
        tables: Mapping[str, tuple[int, str]],
        *,
        fence: Callable[[Connection], None] = lambda _: None,
        name: str = NAME,
        hang_up: float | None = ANSWER_SECONDS,
    ) -> None:
        """`tables`: the name of a part → its version, and the SQL that makes it. `name`: as the server shows it.

        `hang_up`: after so many seconds without an answer; None for who would rather wait.
        """
        self._url, self._tables, self._fence, self._name = url, tables, fence, name
        self._hang_up = hang_up
        self._idle: LifoQueue[Connection] = LifoQueue()
        self._readers, self._writing = threading.BoundedSemaphore(MOST_READERS), threading.Lock()
        self._db: Connection | None = None  # of the transaction under way
        self._made = False
        self.promised = "unknown: not reached yet"  # what an accepted report is, as of the last connection

    # ---- connections ----

    def connect(self) -> Connection:
        """A new connection in autocommit, the tables there, the settings such that what is committed stays."""
        with ours():
            connection = opened(self._url, self._name)
            try:
                self.promised = promise_of(connection)
                if not self._made:
                    self._make(connection)
                    self._made = True
                arrays.taught(connection)
                connection.hang_up = self._hang_up
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """A connection for a moment. One that broke takes the idle ones with it: they are of the same server."""
        with ours():
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = self.connect()
            try:
                yield connection
            finally:
                self._put_back(connection)

    def _put_back(self, connection: Connection) -> None:
        if connection.closed:
            self.close()
        elif connection.info.transaction_status:
            connection.close()
        else:
            self._idle.put(connection)

    def close(self) -> None:
        """Let the connections go."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    # ---- reading and writing ----

    def read(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query; asked once more where the connection had broken while nobody used it."""
        if any(isinstance(one, str) and "\0" in one for one in bindings):
            return []  # no text here has one, and it would not be taken as a value either
        for again in (True, False):
            with self._reading(), self.lent() as connection:
                try:
                    return connection.execute(numbered(sql), bindings, binary=True).fetchall()
                except psycopg.OperationalError:
                    if not (again and connection.closed):
                        raise
        raise AssertionError("not reached")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if not self._readers.acquire(timeout=self._hang_up):
            raise JournalUnavailable(f"{MOST_READERS} others wait for PostgreSQL's answer already")
        try:
            yield
        finally:
            self._readers.release()

    def call(self, sql: str, bindings: Sequence[Any] = (), *, patience: float | None = None) -> list[Any]:
        """One statement that is a transaction by itself: no client that goes away in the middle keeps its locks.

        A server that was told to wait no longer for its standbys commits, and only warns: that is no promise. It is
        told so after `patience`, in seconds.
        """
        warned: list[str] = []

        def warn(told: Diagnostic) -> None:
            warned.append(f"{told.severity}: {told.message_primary}")

        with self.lent() as connection, ended(connection, patience):
            connection.add_notice_handler(warn)
            try:
                rows = connection.execute(sql, bindings, binary=True).fetchall()
            finally:
                connection.remove_notice_handler(warn)
        if warned:
            raise JournalUnavailable("; ".join(warned))
        return rows

    @contextmanager
    def transaction(self) -> Iterator["Db"]:
        """See `service.journal.store.Store.transaction`. It is much at once, and no request waits for it."""
        with self._writing, self.lent() as connection:
            connection.hang_up = self._hang_up and WORK_SECONDS
            try:
                with connection.transaction():
                    self._fence(connection)
                    self._db = connection
                    yield Db(connection)
            finally:
                self._db = None
                connection.hang_up = self._hang_up

    @contextmanager
    def part(self) -> Iterator["Db"]:
        """See `service.journal.store.Store.part`."""
        assert self._db is not None
        with ours(), self._db.transaction():
            yield Db(self._db)

    # ---- what differs from SQLite ----

    def among(self, table: str, index: str) -> str:  # noqa: ARG002 - it knows best
        """The table: PostgreSQL takes no advice."""
        return table

    def memo(self, value: int | str) -> str:
        """A value as JSON."""
        return orjson.dumps(value).decode()

    def replaced(self) -> bool:
        """Never: whoever connects finds what is there."""
        return False

    def still_here(self) -> None:
        """It is wherever one connects to."""

    def overwrite_freed(self) -> None:
        """Nothing: `scrub` does what can be done."""

    def scrub(self) -> None:
        """Have what was freed be reused; what is in the server's log and backups stays there as long as those do."""
        with self.lent() as connection:
            for table in ("messages", "parked", "aside"):
                if connection.execute("SELECT to_regclass($1)", [table]).fetchone() != (None,):
                    connection.execute(f"VACUUM {table}")

    def try_room(self) -> None:
        """Raise `JournalFull` unless its disk takes a little more: what is sorted out there is gone afterwards."""
        with self.lent() as connection, connection.transaction():
            connection.execute("SET LOCAL work_mem='64kB'")
            connection.execute("SELECT count(*) FROM generate_series(1, $1)", [ROOM_BYTES // 14])  # bytes of a row

    def others(self) -> int:
        """How many sessions of gridgovs it has."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname=current_database() AND application_name IN (?, ?)"
        return int(self.read(sql, (NAME, LEADER))[0][0])

    def promise(self) -> str:
        """What an answer that a report is accepted means on this server."""
        with self.lent() as connection:
            return promise_of(connection)

    # ---- tables ----

    def _make(self, connection: Connection) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock($1)", [_MAKING])
            if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname=$1", [SCHEMA]).fetchone() is None:
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
            if connection.execute("SELECT to_regclass('versions')").fetchone() == (None,):
                connection.execute("CREATE TABLE versions(part TEXT PRIMARY KEY, version INT NOT NULL)")
            found = cast(dict[str, int], dict(connection.execute("SELECT part, version FROM versions").fetchall()))
            for part, (version, sql) in self._tables.items():
                if part not in found:
                    log.info("making tables", extra={"part": part})
                    connection.execute(sql)
                    connection.execute("INSERT INTO versions VALUES($1, $2)", [part, version])
                elif found[part] != version:
                    raise JournalBroken(f"{part}: schema {found[part]}, this version of gridgov knows {version}")


class Db:
    """One transaction as `service.journal.store.Db` says."""

    def __init__(self, connection: Connection) -> None:
        self._cursor = connection.cursor(binary=True)

    def execute(self, sql: str, bindings: Sequence[Any] = ()) -> "psycopg.Cursor[tuple[Any, ...]]":
        """One statement."""
        return self._cursor.execute(numbered(sql), bindings)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same for each row, in one round trip."""
        self._cursor.executemany(numbered(sql), rows)

    def changes(self) -> int:
        """How many rows the last statement has changed."""
        return self._cursor.rowcount
