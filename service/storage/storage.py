"""Chooses between the two, and gives each process its side of it."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from prometheus_client import Gauge

from service.cases.casebook import Casebook, files
from service.config import Config, ConfigError
from service.domain.standards import Rules
from service.journal.ballast import Ballast
from service.journal.journal import SqliteJournal
from service.journal.room import room
from service.journal.salvage import opened
from service.journal.side import Journal
from service.ports import JournalError
from service.relay.leadership import Leader, Leadership
from service.relay.pulse import Pulse, heard
from service.storage.move import FilesPlace, Place


class Storage(Protocol):
    """Either. Every method may raise `JournalError`."""

    shared: bool  # whether other replicas may be at it

    def accepting(self) -> Journal:
        """The journal of a web process, checked."""

    def leadership(self, told: Gauge) -> Leader:
        """What makes a relay the leader."""

    def pulse(self) -> Pulse:
        """The sign of life of the relay that `leadership` was given to."""

    def heard(self) -> Any:
        """What the leader's last pulse told. Raises OSError or `JournalError` when there is none."""

    def leading(self) -> Journal:
        """The leader's journal."""

    def looking(self) -> Journal:
        """The journal of an operator, which must be there already."""

    def casebook(self, rules: Rules, *, make: bool = True) -> Casebook:
        """The casebook; a leader's, once this process leads."""

    def place(self) -> Place:
        """All of it, to be moved. Raises `JournalUnavailable` while it is in use."""

    def relieve(self) -> bool:
        """Make room on a full disk; whether there was any to make."""

    def restore(self) -> None:
        """Make what `relieve` takes, again."""

    def promise(self) -> str:
        """What a 202 means here."""

    def told(self) -> Mapping[str, str]:
        """The same as it was last known, for `/readyz`; nothing where it is simply this machine's disk."""


class Files:
    """SQLite's in the data directory."""

    shared = False

    def __init__(self, config: Config) -> None:
        self._directory, self._limit = config.data_dir, config.journal_limit
        self._ballast: Ballast | None = None

    def accepting(self) -> SqliteJournal:
        """See `Storage.accepting`; a corrupt one is set aside first."""
        return opened(self._directory, limit=self._room())

    def leadership(self, told: Gauge) -> Leadership:
        """See `Storage.leadership`."""
        return Leadership(self._directory, told)

    def pulse(self) -> Pulse:
        """See `Storage.pulse`."""
        return Pulse(self._directory, time)

    def heard(self) -> Any:
        """See `Storage.heard`."""
        return heard(self._directory)

    def leading(self) -> SqliteJournal:
        """See `Storage.leading`. On a full disk SQLite cannot even open it: then the ballast makes the room."""
        self._ballast = Ballast(self._directory)
        try:
            return SqliteJournal(self._directory, limit=self._room(), flush=False)
        except JournalError:
            if not self._ballast.release():
                raise
            return SqliteJournal(self._directory, limit=self._room(), flush=False)

    def looking(self) -> SqliteJournal:
        """See `Storage.looking`."""
        if not (self._directory / "journal.sqlite3").exists():
            raise JournalError(f"no journal in {self._directory} (GRIDGOV_DATA_DIR)")
        return SqliteJournal(self._directory, limit=self._room())

    def casebook(self, rules: Rules, *, make: bool = True) -> Casebook:
        """See `Storage.casebook`."""
        return Casebook.in_files(self._directory, rules, make=make)

    def place(self) -> FilesPlace:
        """See `Storage.place`; made if it is missing."""
        journal = SqliteJournal(self._directory, limit=self._room())
        return FilesPlace(self._directory, journal.store, files(self._directory))

    def relieve(self) -> bool:
        """See `Storage.relieve`."""
        return self._ballast is not None and self._ballast.release()

    def restore(self) -> None:
        """See `Storage.restore`."""
        if self._ballast is not None:
            self._ballast.restore()

    def promise(self) -> str:
        """See `Storage.promise`."""
        return "flushed to this machine's disk"

    def told(self) -> Mapping[str, str]:
        """See `Storage.told`."""
        return {}

    def _room(self) -> int:
        return room(self._directory, self._limit)


def chosen(config: Config) -> Storage:
    """The one that `GRIDGOV_JOURNAL` names. Raises `ConfigError` when it is no address, or psycopg is not installed."""
    if config.journal is None:
        return Files(config)
    try:
        from service.storage.postgresql import OnPostgresql  # noqa: PLC0415 - who keeps it in files needs no psycopg
    except ImportError as error:
        raise ConfigError(["GRIDGOV_JOURNAL: PostgreSQL needs psycopg: pip install 'psycopg[binary]'"]) from error
    return OnPostgresql(config, config.journal)
