"""Rows about power loss: an ext4 that stops from one moment to the next, with all that only memory held.

At that moment the processes must stand still already: a flush that is under way while FS_IOC_SHUTDOWN comes may return
success for what is lost (tried without SQLite: a file that a loop extends and flushes lacked its last record in 4 of 40
rounds). On a machine without power nobody can tell of such a flush any more.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

from tests.faults import mounts
from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, on_lasting_broker, repeated, told, unflushed_attempts_excused
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.gridgov import until

ROUNDS, SHORT_ROUNDS = 50, 3
FRESH = 10  # every so many rounds on a new file system: creating the files must survive too
SERVICE_CUTS, UNFLUSHED_CUTS = 3, 8  # the relay flushes the same file four times a second: one cut may find all there

# ---- the journal alone ----


def journal_cut(setting: Setting, flush: str = "full") -> Seen:
    """Reports are appended by eight threads until the power goes; what was acknowledged must be there afterwards."""
    dice = Random(setting.seed)
    book = setting.directory / "acknowledged"
    lost, rounds = 0, SHORT_ROUNDS if setting.short else ROUNDS
    promised: set[str] = set()
    problems: list[str] = []
    with mounts.ext4(setting.directory) as disk:
        for number in range(rounds):
            if number % FRESH == 0 and number:
                disk.unmount()
                disk.format(mebibytes=64)
                disk.mount()
                promised.clear()
            with _appending(disk.at / "data", f"r{number}", flush, book) as process:
                _wait_for_lines(book, dice.randrange(20, 600))
                _power_off(disk, process.pid)
                process.wait(30)
            promised |= set(book.read_text().splitlines())
            disk.remount()
            kept, damage = _held(disk.at / "data" / "journal.sqlite3")
            problems += damage
            lost += len(promised - kept)
            promised &= kept
    return told(problems, lost == 0, f"{rounds} rounds, {lost} acknowledged lost, {len(problems)} damaged files")


def _power_off(disk: mounts.Disk, *pids: int) -> None:
    """The machine stops from one moment to the next: its processes, then its disk."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(map(_stands_still, pids)), "the processes stand still")
    disk.cut_power()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _stands_still(pid: int) -> bool:
    """Whether each of its threads is stopped, or waits for the disk and will be when it has waited."""
    states = [
        Path(f"{task}/stat").read_text().rsplit(")", 1)[1].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return set(states) <= {"T", "D"}


@contextmanager
def _appending(data: Path, prefix: str, flush: str, book: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.faults.appender", str(data), prefix, flush]
    with book.open("wb") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for_lines(book: Path, wanted: int) -> None:
    until(lambda: book.read_bytes().count(b"\n") >= wanted, f"{wanted} reports are acknowledged", seconds=60)


def _held(file: Path) -> tuple[set[str], list[str]]:
    """The reports in a journal file, read with another SQLite than ours, and what is damaged about it."""
    if not file.exists():
        return set(), []
    db = sqlite3.connect(file)
    try:
        [found] = db.execute("PRAGMA integrity_check").fetchone()
        return {name for (name,) in db.execute("SELECT report_id FROM messages")}, [found] if found != "ok" else []
    except sqlite3.OperationalError as error:  # not even the tables were flushed
        return set(), [] if "no such table" in str(error) else [str(error)]
    finally:
        db.close()


# ---- the whole service ----


def service_cut(setting: Setting, env: Mapping[str, str] | None = None) -> Seen:
    """`gridgov run` on such a disk, and clients that are promised reports until it stops; then the box starts again."""
    dice = Random(setting.seed)
    cuts = UNFLUSHED_CUTS if env else 1 if setting.short else SERVICE_CUTS
    with mounts.ext4(setting.directory) as disk, on_lasting_broker(setting, **env or {}) as (one, _):
        run = one.gridgov
        flowing_from_start(run)
        with one.clients(threads=16) as clients:
            for _ in range(cuts):
                wanted = clients.answered + dice.randrange(200, 2000)
                until(lambda wanted=wanted: clients.answered >= wanted, "posts flow", seconds=60)  # type: ignore[misc]
                _power_off(disk, run.processes[0].pid, *map(run.child, ("web", "worker", "relay")))
                run.stop()
                disk.remount()
                flowing_from_start(run)
        wrong = repeated(one)
        found = unflushed_attempts_excused(one.judged(breaks=cuts))
    return told(wrong, found.met, f"{cuts} cuts: {found.figures}; {len(wrong)} wrong answers to repeats")


ROWS += [
    Row(
        "power loss, journal",
        "0 acknowledged lost",
        journal_cut,
        partial(journal_cut, flush="normal"),
        "synchronous=NORMAL",
        needs=("loop", "mkfs.ext4"),
        in_short=True,
    ),
    Row(
        "power loss, gridgov run",
        "0 accepted lost, repeats get their receipt",
        service_cut,
        partial(service_cut, env=sabotage(unflushed={})),
        "a web process that does not flush",
        needs=("loop", "mkfs.ext4"),
    ),
]
