"""Copies journal and cases while gridgov runs: `python backup.py DATA_DIRECTORY TARGET`, with gridgov's own Python."""

import os
import sys
from pathlib import Path

import apsw

data, target = map(Path, sys.argv[1:])
os.umask(0o077)
target.mkdir(parents=True)
for name in ("journal.sqlite3", "cases.sqlite3"):
    live = apsw.Connection(str(data / name), flags=apsw.SQLITE_OPEN_READONLY)
    copy = apsw.Connection(str(target / name))
    with copy.backup("main", live, "main") as pages:
        pages.step()
    copy.close()
    live.close()
