"""A journal under load, and nothing else: prints each report_id once it may be promised. Ends when the disk fails it.

python -m tests.faults.appender DIRECTORY PREFIX full|normal
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram

from service.journal.journal import SqliteJournal
from service.journal.writer import Writer
from service.ports import JournalError, Message

THREADS = 8


def main() -> None:
    directory, prefix, flush = sys.argv[1:]
    journal = SqliteJournal(Path(directory), limit=1 << 30, flush=flush == "full")
    seconds = Histogram("seconds", "not looked at", registry=CollectorRegistry())
    writer = Writer(journal, queue=1024, seconds=seconds, broken=lambda: os._exit(os.EX_IOERR))
    for number in range(THREADS):
        threading.Thread(target=submit_all, args=(writer, f"{prefix}-{number}")).start()


def submit_all(writer: Writer, prefix: str) -> None:
    """One report after the other; each is written to standard output in one piece, after its flush."""
    for number in count():
        name = f"{prefix}-{number}"
        message = Message("local", name, name.encode(), f"case-{prefix}", "gridgov.power", b"{}", bytes(1000), number)
        try:
            writer.submit([message])
        except JournalError:
            return
        os.write(1, f"{name}\n".encode())


if __name__ == "__main__":
    main()
