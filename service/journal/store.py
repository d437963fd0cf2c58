"""What the casebook asks of the database it lives in, whichever that is: SQLite's files, or a PostgreSQL server.

Both take the same SQL, with `?` or `?1` for values; what differs is said by the store.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from service.ports import JournalBroken, JournalUnavailable


class RowRefused(JournalBroken):
    """The database will not have this row, wherever."""


class JournalMissing(JournalUnavailable):
    """There is no database in this one's place."""


class Rows(Protocol):
    """What a statement gives."""

    def fetchall(self) -> list[Any]:
        """All rows."""


class Db(Protocol):
    """One transaction."""

    def execute(self, sql: str, bindings: Sequence[Any] = ..., /) -> Rows:
        """One statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """The same for each row."""

    def changes(self) -> int:
        """How many rows the last statement has changed."""


class Store(Protocol):
    """A database with tables of its own. Every method may raise `JournalError`."""

    LISTED: str  # a query for the texts of a JSON array, which stands in it as `?`

    def among(self, table: str, index: str) -> str:
        """The table for a FROM, to be read by this index where the database takes advice."""

    def memo(self, value: int | str) -> Any:
        """What `meta` keeps for a value, and reads as the same."""

    def transaction(self) -> AbstractContextManager[Db]:
        """A write transaction; leaving it is the commit, an exception rolls it back."""

    def part(self) -> AbstractContextManager[Db]:
        """A part of this thread's transaction: an exception takes back what was changed in it, and no more."""

    def read(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query."""

    def replaced(self) -> bool:
        """Whether another database stands in this one's place, or none."""

    def still_here(self) -> None:
        """Raise `JournalMissing` or `JournalBroken` when it was replaced: what is written now nobody will read."""

    def overwrite_freed(self) -> None:
        """From now on, leave nothing of what a write frees."""

    def scrub(self) -> None:
        """Leave nothing of what was deleted or changed, as far as that is the database's to say."""

    def close(self) -> None:
        """Let it go; nothing is lost by not doing so."""
