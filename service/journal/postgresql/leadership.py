"""What makes one relay of many, on as many machines, the leader of a journal on PostgreSQL.

An advisory lock on a session of its own: the server frees it as soon as it sees that session end, which after a kill
is at once. A leader that is silent, cut off or stopped, keeps the session; who waits watches the beats that it leaves
in the table, by the watcher's own clock, and ends its session when there is none any more.

The lock only says who may become the leader. What keeps one who was from writing is `fence`: its name is in `leader` no
longer, and every transaction of a leader begins with a look at that.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
from prometheus_client import Gauge
from psycopg.types.json import Jsonb

from service.journal.postgresql.connection import Connection, Deposed, ours
from service.journal.postgresql.server import LEADER, Server
from service.ports import JournalFull, JournalUnavailable

log = logging.getLogger(__name__)

STANDBY_SECONDS = 0.25
SILENT_SECONDS = 7.0  # a leader beats once a second
LOCK = 0x67676F76  # the advisory lock of the leader
_HOLDERS = f"""
SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_database d ON d.oid=l.database
WHERE locktype='advisory' AND granted AND datname=current_database() AND classid=0 AND objid={LOCK}
  AND pid<>pg_backend_pid()
"""
# What former leaders have open: cut off in the middle of a transaction, it would keep what it has locked.
_FORMER = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname=current_database() AND application_name=$1
"""
_BEAT = """
UPDATE pulse SET beat=beat+1, at=clock_timestamp(), told=$2 WHERE EXISTS (SELECT 1 FROM leader WHERE holder=$1)
"""


class Leadership:
    """`told` is 1 while this process leads. It leads as `holder`, a name that nobody else has, nor this one later."""

    def __init__(self, server: Server, told: Gauge, clock: Callable[[], float] = time.monotonic) -> None:
        self._server, self._told, self._clock = server, told, clock
        self._session: Connection | None = None
        self._heard: tuple[int, float] | None = None  # the leader's last beat, and when it was first seen
        self.holder = uuid.uuid4().hex
        self.leading = False

    def wait(self, stop: threading.Event) -> bool:
        """Stand by until this process leads, also while there is no server; False when asked to stop before that."""
        said = None
        while not stop.is_set():
            why = "another relay leads"
            try:
                if self._try():
                    self.leading = True
                    self._told.set(1)
                    return True
            except (JournalUnavailable, JournalFull) as error:
                why = str(error)
            if why != said:
                log.info("standing by", extra={"why": why})
                said = why
            stop.wait(STANDBY_SECONDS)
        return False

    def fence(self, connection: Connection) -> None:
        """Raise `Deposed` unless this process leads, until the end of the transaction."""
        connection.execute("SELECT fence($1)", [self.holder])

    def beat(self, told: dict[str, Any]) -> None:
        """Say that this leader lives, and how it fares. Raises `Deposed` when it leads no longer.

        Also when its session is lost: a server that crashed, or the standby that took its place, may have forgotten
        what this leader remembers as settled. Who leads next, this process anew or another, begins with what is there.
        """
        assert self._session is not None
        try:
            with ours():
                known = self._session.execute(_BEAT, [self.holder, Jsonb(told)]).rowcount
        except JournalFull as error:  # whoever takes the lead for its silence will fare no better
            log.warning("beat not written", extra={"error": str(error)})
            return
        except JournalUnavailable as error:
            raise Deposed(f"the session of the leader's lock is lost: {error}") from error
        if not known:
            raise Deposed("another relay leads")

    def _try(self) -> bool:
        with ours():
            session = self._connected()
            if not _locked(session):
                self._end_the_silent(session)
                return False
            session.execute("UPDATE pulse SET beat=beat+1, at=clock_timestamp()")  # somebody comes: leave him the lock
            session.execute(_FORMER, [LEADER])
            session.execute("UPDATE leader SET epoch=epoch+1, holder=$1", [self.holder])
            return True

    def _connected(self) -> Connection:
        if self._session is None or self._session.closed:
            self._session = self._server.connect()
            # it is the name that counts, so no standby is waited for; and nobody for longer than is patience
            self._session.execute("SET synchronous_commit=off; SET lock_timeout='3s'")
        return self._session

    def _end_the_silent(self, session: Connection) -> None:
        [beat] = session.execute("SELECT beat FROM pulse").fetchone() or [0]
        now = self._clock()
        if self._heard is None or self._heard[0] != beat:
            self._heard = (beat, now)
        elif now - self._heard[1] > SILENT_SECONDS:
            log.error("the leader is silent, ending its session", extra={"seconds": round(now - self._heard[1])})
            session.execute(_HOLDERS)
            self._heard = None


def _locked(session: "psycopg.Connection[tuple[Any, ...]]") -> bool:
    return session.execute("SELECT pg_try_advisory_lock($1::BIGINT)", [LOCK]).fetchone() == (True,)
