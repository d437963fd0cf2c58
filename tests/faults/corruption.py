"""Rows about a journal whose file is damaged: set aside, gone on without, salvaged."""

from __future__ import annotations

import math
import re
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, missing, on_lasting_broker, pending, told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept, Trial, flowing
from tests.gridgov import until
from tests.system.checker import check, read_topics

PAGE, PAGES = 4096, 6  # bytes; how many in the middle are overwritten
WAITING, LATER = 1500, 100
NOTICE_SECONDS = 20.0


@dataclass(frozen=True)
class Damage:
    """What was pending in a journal: what another SQLite can still read of it, and what not."""

    readable: set[str]
    unreadable: set[str]


def corrupt(setting: Setting, *, salvaged: bool = True) -> Seen:
    """Pages in the middle of a stopped journal are overwritten, while most of what it holds is pending."""
    with on_lasting_broker(setting) as (one, kafka):
        run = one.gridgov
        flowing_from_start(run)
        _post(one, "before", 200)
        run.settled()
        kafka.stop()
        _post(one, "waiting", WAITING)
        run.stop()
        damage = _damaged(run.data_dir / "journal.sqlite3", setting)
        run.start()
        run.ready()
        _post(one, "later", LATER)
        kafka.start()
        flowing(run)
        seen = _judged(one, damage, _salvaged(one) if salvaged else 0)
    return Seen(seen.met and len(damage.unreadable) > 0, seen.figures)


def replaced(setting: Setting, **more: dict[str, Any]) -> Seen:
    """Somebody moves the journal away while the web process is stopped; the relay runs on, and must see the new one."""
    with on_lasting_broker(setting, **sabotage(**more)) as (one, kafka), Kept(one.gridgov, "relay") as kept:
        run = one.gridgov
        web = run.start("web")
        flowing(run)
        kafka.stop()
        _post(one, "waiting", WAITING)
        web.terminate()
        web.wait(20)
        damage = _moved(run.data_dir)
        run.start("web")
        run.ready()
        _post(one, "later", LATER)
        kafka.start()
        seconds = _drained(one)
        if seconds == math.inf:  # a control: the next relay opens the right file
            kept.signal("relay")
        seen = _judged(one, damage, _salvaged(one))
    return Seen(seen.met and seconds < math.inf, f"the new journal drained after {seconds:.1f} s; {seen.figures}")


def taken_from_web(setting: Setting, **more: dict[str, Any]) -> Seen:
    """The same while everything runs: web must not take one more report for a journal that nobody will publish."""
    with on_lasting_broker(setting, **sabotage(**more)) as (one, kafka), Kept(one.gridgov, "web", "relay"):
        run = one.gridgov
        flowing(run)
        kafka.stop()
        _post(one, "waiting", WAITING)
        with one.clients("meanwhile", threads=8, pace=0.01) as clients:
            until(lambda: clients.answered >= LATER, "posts flow", seconds=60)
            _moved(run.data_dir)
            mark = clients.answered
            until(lambda: clients.answered >= mark + LATER, "posts flow again", seconds=60)
        kafka.start()
        seconds = _drained(one)
        brought = _salvaged(one)
        run.settled()
        lost = missing(
            check(one.ledger, read_topics(run.kafka, one.prefix))
        )  # the order of what was brought back is gone
    ended = run.log.count("journal broken, stopping")
    figures = f"{ended} stops; the new journal drained after {seconds:.1f} s; {brought} brought back; {len(lost)} lost"
    return told(sorted(lost), ended > 0 and seconds < math.inf, figures)


def _post(one: Trial, name: str, reports: int) -> None:
    with one.clients(name, threads=8) as clients:
        until(lambda: clients.answered >= reports, "posts flow", seconds=60)
    assert clients.told.keys() == {"accepted"}, clients.told


def _moved(data: Path) -> Damage:
    """Set the journal aside by hand, whole as it is."""
    with closing(sqlite3.connect(data / "journal.sqlite3")) as db:
        pending = {name for (name,) in db.execute("SELECT report_id FROM messages WHERE settled=0")}
    aside = data / "corrupt-by-hand"
    aside.mkdir()
    for file in data.glob("journal.sqlite3*"):
        file.rename(aside / file.name)
    return Damage(pending, set())


def _damaged(file: Path, setting: Setting) -> Damage:
    """Overwrite pages in the middle, then try each row with another SQLite than ours, on a copy."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = db.execute("SELECT seq, report_id FROM messages WHERE settled=0").fetchall()
    with file.open("r+b") as raw:
        raw.seek(file.stat().st_size // PAGE // 2 * PAGE)
        raw.write(Random(setting.seed).randbytes(PAGE * PAGES))
    copy = shutil.copy(file, setting.directory / "copy.sqlite3")
    with closing(sqlite3.connect(copy)) as db:
        readable = {name for seq, name in rows if _reads(db, seq)}
    return Damage(readable, {name for _, name in rows} - readable)


def _reads(db: sqlite3.Connection, seq: int) -> bool:
    try:
        return db.execute("SELECT * FROM messages NOT INDEXED WHERE seq=?", (seq,)).fetchone() is not None
    except sqlite3.DatabaseError:
        return False


def _drained(one: Trial) -> float:
    begin = time.monotonic()
    try:
        until(lambda: pending(one.gridgov) == 0, "", seconds=NOTICE_SECONDS)
    except AssertionError:
        return math.inf
    return time.monotonic() - begin


def _salvaged(one: Trial) -> int:
    """How many reports `gridgov journal salvage` says to have brought back; a second time there must be nothing."""
    first, again = (one.gridgov.run("journal", "salvage", check=True) for _ in range(2))
    assert "no journal was set aside" in again.stderr, again
    return int(re.findall(r"(\d+) reports brought back", first.stdout)[0])


def _judged(one: Trial, damage: Damage, brought: int) -> Seen:
    one.gridgov.settled()
    aside = len(list(one.gridgov.data_dir.glob("corrupt-*")))
    verdict = check(one.ledger, read_topics(one.gridgov.kafka, one.prefix), excused=damage.unreadable)
    lost = missing(verdict)
    figures = (
        f"{aside} set aside; of {len(damage.readable)} readable pending ones {brought} brought back, {len(lost)} lost;"
        f" {len(damage.unreadable)} cannot be read"
    )
    return told(verdict.problems, aside == 1 and brought == len(damage.readable), figures)


ROWS += [
    Row(
        "journal corrupt",
        "set aside, goes on; 0 readable lost once salvaged",
        corrupt,
        partial(corrupt, salvaged=False),
        "nobody runs the salvage",
        in_short=True,
    ),
    Row(
        "journal moved away under a running relay",
        "the relay follows the new one; 0 lost once salvaged",
        replaced,
        partial(replaced, overlooks={}),
        "a relay that does not look at the file's identity",
    ),
    Row(
        "journal moved away under a running web",
        "no 202 for what nobody will publish; 0 lost once salvaged",
        taken_from_web,
        partial(taken_from_web, blind_web={}),
        "a web that does not look at the file's identity",
        in_short=True,
    ),
]
