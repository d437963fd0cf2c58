"""Members of the operations sub-centre, for the rows about it: `gridgov sink`, and a reader of its own making.

python -m tests.faults.sub_centre sink|lite|own|forgetful     the database is in GRIDGOV_SINK_DATABASE

`sink` and `lite` are `gridgov sink`, each in a group of its own, for a database of its own. `own` is what a sub-centre
writes with the library in ten lines: its table has no key, so that only the library keeps rows from coming twice. To
`forgetful`, its control, every report is news.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from service.consumer import Database, Reader, Report, batch
from service.consumer import reader as member

SESSION_MS = 2_000  # as low as the broker of these rows lets it be: a member that was killed is missed soon


def own(group: str) -> None:
    """Each report on a line of the table `received`."""
    database, stop = Database.at(os.environ["GRIDGOV_SINK_DATABASE"]), threading.Event()

    def prepare() -> None:
        with database.transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS received(sender TEXT, report_id TEXT)")

    def handle(cursor: Any, reports: list[Report]) -> None:
        cursor.executemany("INSERT INTO received VALUES(?, ?)", [(one.sender, one.report_id) for one in reports])

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    kafka = {"bootstrap_servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "reconnect_backoff_max_ms": 1000}
    Reader(kafka, database, handle, group=group, prepare=prepare).run(stop)


def main(what: str) -> None:
    member.SESSION_MS = SESSION_MS
    if what == "forgetful":
        batch.is_news = lambda *_: True
    if what not in {"sink", "lite"}:
        own(what)
        return
    from service.cli.main import main as gridgov

    gridgov(["sink", "--group", what])


if __name__ == "__main__":
    main(*sys.argv[1:])
