"""The reader's own database: SQLite, or PostgreSQL through psycopg 3 where that is installed.

Both are spoken to in one SQL with `?` for values. What differs is below: how to connect, how a row is locked, which
errors are the database's own and pass, and which are a record's.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

SOUND_WAL = (3, 51, 3)  # every SQLite before can lose commits when several processes share a file in WAL mode
WAIT_SECONDS = 15  # for a lock that another reader or a report of the BI tool holds
CONNECT_SECONDS = 10
# A server that went away without a word is noticed within that wait too.
ALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": WAIT_SECONDS * 1000,
}


class UnknownDatabase(ValueError):
    """Not the address of a database that can be written to; the text says what to do. No password is in it."""


class DatabaseAway(Exception):
    """The database does not take it now, and no record is to blame: locked, full, unreachable, without our tables."""


def masked(url: str) -> str:
    """The address without its password, wherever that stands in it."""
    url = re.sub(r"://([^@/?#:]*):.*@", r"://\1:***@", url)  # to the last @: in the password it may stand as it is
    return re.sub(r"(?i)\b(password|sslpassword)=[^&\s]*", r"\1=***", url)


class Database:
    """One connection, made when it is needed, and anew after any error of the database's own."""

    TYPES: ClassVar[dict[str, str]]
    COMMENTS = False  # whether it keeps what a column says
    FOR_UPDATE = ""  # appended to a SELECT whose rows must stand until the transaction ends
    _passing: tuple[type[BaseException], ...] = ()

    @staticmethod
    def at(url: str) -> "Database":
        """The one at `sqlite:///path`, `sqlite:////absolute/path` or `postgresql://…`. Raises `UnknownDatabase`."""
        scheme = url.partition(":")[0]
        if scheme == "sqlite":
            return Sqlite(_file(url))
        if scheme in ("postgresql", "postgres"):
            return Postgresql(url)
        raise UnknownDatabase(f"{masked(url)!r} is no postgresql://user@host/name and no sqlite:///path/to/file")

    def __init__(self) -> None:
        self._connection: Any = None

    def close(self) -> None:
        """Let the connection go; what was not committed is not."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor; all it does is committed together, or not at all. Raises `DatabaseAway`, and what the body does."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            cursor = self._connection.cursor()
            cursor.execute(self._begin)
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(*self._passing):
                    cursor.execute("ROLLBACK")
                raise
        except self._passing as error:
            self.close()
            raise DatabaseAway(f"{type(error).__name__}: {str(error).strip()}") from error

    @contextmanager
    def part(self, cursor: Any) -> Iterator[None]:
        """A part of a transaction that leaves nothing behind when it fails."""
        cursor.execute("SAVEPOINT part")
        try:
            yield
        except self._passing:
            raise
        except BaseException:
            cursor.execute("ROLLBACK TO SAVEPOINT part")
            raise
        cursor.execute("RELEASE SAVEPOINT part")

    def make(self, cursor: Any, table: str, statements: Iterable[str]) -> bool:
        """Run these statements of `sql` if `table`, which they make, is not there; whether they were run.

        Members that start together do it one after the other; whoever finds it there needs no right to make any.
        """
        self._alone(cursor)
        cursor.execute(self.sql(self._find), (table,))
        if cursor.fetchone() is not None:
            return False
        for statement in statements:
            cursor.execute(self.sql(statement))
        return True

    def is_passing(self, error: BaseException) -> bool:
        """Whether it is the database's own, or the machine's, which any other record would meet too."""
        return isinstance(error, (*self._passing, DatabaseAway, OSError, MemoryError))

    def sql(self, text: str) -> str:
        """One statement as this database wants it: `?` is a value, `{blob}` and the like a type."""
        return text.format_map(self.TYPES)

    def add(self, cursor: Any, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """Many rows at once; `columns` is name → type, in their order. A row whose key is there already is left out."""
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table}({', '.join(columns)}) VALUES({marks}) ON CONFLICT DO NOTHING"
        cursor.executemany(self.sql(sql), rows)

    _begin = "BEGIN"
    _find: str

    def _alone(self, cursor: Any) -> None:
        """Let nobody else make tables until the transaction ends."""

    def _connect(self) -> Any:
        raise NotImplementedError


class Sqlite(Database):
    """One file. Several readers may share it; each transaction then waits for the other's."""

    TYPES: ClassVar = {"blob": "BLOB", "time": "TEXT", "big": "INTEGER", "real": "REAL", "truth": "INTEGER"}
    _passing = (sqlite3.OperationalError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.NotSupportedError)
    _begin = "BEGIN IMMEDIATE"
    _find = "SELECT 1 FROM sqlite_schema WHERE name=?"

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def _connect(self) -> Any:
        made = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)
        made.execute(f"PRAGMA journal_mode={'WAL' if sqlite3.sqlite_version_info >= SOUND_WAL else 'DELETE'}")
        made.execute("PRAGMA synchronous=FULL")
        return made


class Postgresql(Database):
    """Any PostgreSQL that psycopg 3 reaches. A password may also stand in PGPASSWORD or in ~/.pgpass."""

    TYPES: ClassVar = {
        **{"blob": "BYTEA", "time": "TIMESTAMPTZ", "big": "BIGINT", "real": "DOUBLE PRECISION", "truth": "BOOLEAN"}
    }
    COMMENTS = True
    FOR_UPDATE = " FOR UPDATE"
    _find = "SELECT 1 FROM pg_class WHERE oid=to_regclass(?)"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        try:
            import psycopg  # noqa: PLC0415 - who writes to SQLite need not have it
        except ImportError as error:
            raise UnknownDatabase("PostgreSQL needs psycopg: pip install 'psycopg[binary]'") from error
        try:
            psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise UnknownDatabase(f"{masked(url)!r} is no address of a PostgreSQL") from None
        self._psycopg = psycopg
        self._passing = (
            psycopg.OperationalError,  # also a deadlock, a full disk, a server that is stopping
            psycopg.InterfaceError,
            psycopg.InternalError,
            psycopg.ProgrammingError,  # no such table, not allowed: no record's fault
            psycopg.NotSupportedError,
        )

    def sql(self, text: str) -> str:
        return super().sql(text).replace("?", "%s")

    def add(self, cursor: Any, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
        """As one statement with an array for each column: the server takes half the time that it takes for so many."""
        arrays = ", ".join(f"?::{type_}[]" for type_ in columns.values())
        sql = f"INSERT INTO {table}({', '.join(columns)}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
        if rows:
            cursor.execute(self.sql(sql), [list(column) for column in zip(*rows, strict=True)])

    def _alone(self, cursor: Any) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('gridgov-consumer'))")

    def _connect(self) -> Any:
        made = self._psycopg.connect(
            self._url,
            autocommit=True,  # `transaction` begins and ends them
            connect_timeout=CONNECT_SECONDS,
            fallback_application_name="gridgov-consumer",
            **ALIVE,
        )
        made.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'")
        return made


def _file(url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or path == "/" or parts.query or parts.fragment:
        raise UnknownDatabase(f"{url!r}: a file is sqlite:///relative/path or sqlite:////absolute/path")
    return path[1:]
