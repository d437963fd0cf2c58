"""Journal and casebook on a PostgreSQL server."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import Gauge

from service.cases import casebook
from service.cases.casebook import Casebook
from service.config import Config, ConfigError
from service.domain.standards import Rules
from service.journal.postgresql import dialect, tables
from service.journal.postgresql.connection import SCHEMA, understood
from service.journal.postgresql.journal import PostgresqlJournal
from service.journal.postgresql.leadership import Leadership
from service.journal.postgresql.server import LEADER, Server
from service.ports import JournalUnavailable
from service.relay.pulse import Pulse
from service.storage.move import ServedPlace

log = logging.getLogger(__name__)

TABLES = {
    "journal": (tables.VERSION, tables.SCHEMA),
    "cases": (casebook.VERSION, dialect.tables(casebook.SCHEMA)),
}
_HEARD = "SELECT told, extract(epoch FROM clock_timestamp()-at)::FLOAT8 FROM pulse"


class OnPostgresql:
    """See `service.storage.storage.Storage`. Nothing is asked of the server before it is needed: it may be away.

    Raises `ConfigError` for what is no address.
    """

    shared = True

    def __init__(self, config: Config, url: str) -> None:
        if not understood(url):
            raise ConfigError(["GRIDGOV_JOURNAL: is no address of a PostgreSQL (it is not shown)"])
        self._config, self._url = config, url
        self._server = Server(url, TABLES)
        self._leadership: Leadership | None = None

    def accepting(self) -> PostgresqlJournal:
        """The journal. Raises `JournalBroken` for a server that promises nothing; one that is away is waited for."""
        try:
            log.info("journal on PostgreSQL", extra={"accepted": self._server.promise()})
        except JournalUnavailable as error:
            log.error("PostgreSQL not reached, nothing is accepted until it is", extra={"error": str(error)})
        return PostgresqlJournal(self._server, limit=self._config.journal_limit)

    def leadership(self, told: Gauge) -> Leadership:
        """See `Storage.leadership`."""
        self._leadership = Leadership(self._server, told)
        return self._leadership

    def pulse(self) -> Pulse:
        """Told to who watches this process, by its file, and to all who rely on the leader, in the database."""
        assert self._leadership is not None
        return Pulse(self._config.data_dir, time, tell=self._leadership.beat)

    def heard(self) -> Any:
        """As of this machine's clock."""
        [(told, age)] = self._server.read(_HEARD)
        return {**told, "at": (time.time() - age) * 1000}

    def leading(self) -> PostgresqlJournal:
        """The leader's journal: each of its writes looks first whether it leads."""
        assert self._leadership is not None
        self._server = Server(self._url, TABLES, fence=self._leadership.fence, name=LEADER)
        return PostgresqlJournal(self._server, limit=self._config.journal_limit, holder=self._leadership.holder)

    def looking(self) -> PostgresqlJournal:
        """See `Storage.looking`. What an operator asks for may take its time."""
        self._server = Server(self._url, TABLES, hang_up=None)
        return PostgresqlJournal(self._server, limit=self._config.journal_limit)

    def casebook(self, rules: Rules, *, make: bool = True) -> Casebook:  # noqa: ARG002 - its tables are there
        """See `Storage.casebook`."""
        return Casebook(self._server, rules)

    def place(self) -> ServedPlace:
        """See `Storage.place`."""
        server = Server(self._url, TABLES, name="gridgov journal move", hang_up=None)
        if others := server.others():
            server.close()
            raise JournalUnavailable(
                f"{others} sessions of gridgov are open at that PostgreSQL: stop all replicas first"
            )
        return ServedPlace(server, SCHEMA)

    def relieve(self) -> bool:
        """Nothing to make: the disk is the server's."""
        return False

    def restore(self) -> None:
        """Nothing."""

    def promise(self) -> str:
        """See `Storage.promise`."""
        return self._server.promise()

    def told(self) -> Mapping[str, str]:
        """As of the last connection; nothing is asked."""
        return {"accepted": self._server.promised}
