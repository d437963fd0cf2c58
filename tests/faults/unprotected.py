"""gridgov without one of its protections, which is what negative controls run: nothing in the product knows of this.

python -m tests.faults.unprotected PROTECTION COMMAND     e.g. flush web
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import psycopg

from service.broker import publisher
from service.broker.topics import TopicWatch
from service.cli import main as cli
from service.journal import inbox
from service.journal.postgresql import connection
from service.journal.postgresql import leadership as postgresql
from service.journal.sqlite import Db
from service.journal.writer import Writer
from service.ports import Message, PauseReason, Receipt, State
from service.relay import relay
from service.relay.leadership import Leadership


def flush() -> None:
    """The web process answers before the journal has been written."""

    own = Writer.submit

    def submit(self: Writer, messages: Sequence[Message]) -> list[Receipt]:
        threading.Thread(target=own, args=(self, messages), daemon=True).start()
        return [Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING) for m in messages]

    patch.object(Writer, "submit", submit).start()


def dedupe() -> None:
    """The journal forgets a report as soon as it comes again."""
    append = inbox.append

    def forgetful(db: Db, m: Message) -> Any:
        db.execute("DELETE FROM receipts WHERE sender=? AND report_id=?", (m.sender, m.report_id))
        return append(db, m)

    patch.object(inbox, "append", forgetful).start()


def leadership() -> None:
    """Every relay believes that it leads."""

    def wait(self: Leadership, stop: threading.Event) -> bool:
        self.leading = True
        self._told.set(1)
        return not stop.is_set()

    patch.object(Leadership, "wait", wait).start()


def watching() -> None:
    """Who stands by at a PostgreSQL does not look whether the leader still beats."""
    postgresql.SILENT_SECONDS = float("inf")


def noticing() -> None:
    """Nor does the server look whether the leader is still there."""
    watching()
    connection._SESSION = "\n".join(line for line in connection._SESSION.splitlines() if "tcp_" not in line)


def patience() -> None:
    """Who asks a PostgreSQL waits until it answers."""
    connection.Connection.wait = psycopg.Connection.wait  # type: ignore[method-assign]


def lanes() -> None:
    """A topic that takes nothing holds all the others up."""
    own = TopicWatch.pause

    def pause(self: TopicWatch, name: str) -> PauseReason | None:
        return own(self, name) or next(filter(None, (own(self, other) for other in self.topics)), None)

    patch.object(TopicWatch, "pause", pause).start()


def parking() -> None:
    """A record that Kafka refuses is never given up: it stands in the way of its topic."""
    relay.RECORD_OVERHEAD = -(1 << 30)
    publisher.TOPIC_FAULTS.update(dict.fromkeys(publisher.RECORD_FAULTS, PauseReason.UNKNOWN))
    publisher.RECORD_FAULTS.clear()


PROTECTIONS: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (flush, dedupe, leadership, watching, noticing, patience, lanes, parking)
}


if __name__ == "__main__":
    _, protection, *command = sys.argv
    PROTECTIONS[protection]()
    cli.main(command)
