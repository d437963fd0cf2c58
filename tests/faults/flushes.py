"""Rows about a disk that answers: errors on flushes and reads, and flushes that take their time."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, on_lasting_broker, pause, told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Trial
from tests.gridgov import Gridgov, report, until

SHARE = 0.01  # of the flushes that fail
FAILURES, SHORT_FAILURES = 5, 3  # in all: more in a row, and `gridgov run` gives up as it should
SLOW_SECONDS = 0.05
RATE, P99_SECONDS = 100, 0.5  # posts per second, and how long one may take
CLIENTS = 90
PENDING = 100

# ---- errors ----


def eio(setting: Setting, **more: dict[str, Any]) -> Seen:
    """One flush of a hundred fails, and what it should have written is not there."""
    log, wanted = setting.directory / "failures", SHORT_FAILURES if setting.short else FAILURES
    broken = {"share": SHARE, "most": wanted, "seed": setting.seed, "log": str(log)}
    with on_lasting_broker(setting, **sabotage(failing_flushes=broken, **more)) as (one, _):
        flowing_from_start(one.gridgov)
        return _posted_while_flushes_fail(one, lambda: log.stat().st_size, wanted)


def eio_by_strace(setting: Setting, **more: dict[str, Any]) -> Seen:
    """The same from the kernel: strace makes the system calls of the web process fail."""
    dice = Random(setting.seed)
    with on_lasting_broker(setting, **sabotage(**more)) as (one, _):
        flowing_from_start(one.gridgov)

        def fault() -> str:  # and every hundredth after it, for a process that goes on, as only the control's does
            return f"error=EIO:when={1 + int(dice.expovariate(SHARE))}+{int(1 / SHARE)}"

        with straced(one.gridgov, fault, most=FAILURES) as injected:
            return _posted_while_flushes_fail(one, injected, FAILURES)


def _posted_while_flushes_fail(one: Trial, failures: Callable[[], int], wanted: int) -> Seen:
    run = one.gridgov
    with one.clients(threads=8, pace=0.01) as clients:
        until(lambda: failures() >= wanted, f"{wanted} flushes fail", seconds=180)
        before = clients.answered
        until(lambda: clients.answered >= before + 200, "posts flow", seconds=60)
    found = one.judged(breaks=0)
    stops = sum(run.log.count(f"journal {what}, stopping") for what in ("broken", "unusable"))  # in use, at its opening
    figures = f"{failures()} failed, {stops} stops, {clients.told['refused']} answers 503; {found.figures}"
    return told([], found.met and clients.told["refused"] > 0 and stops >= wanted, figures)


def eio_at_start(setting: Setting, **more: dict[str, Any]) -> Seen:
    """A journal with pending reports meets I/O errors when it is opened: that is no reason to begin a new one."""
    log = setting.directory / "failures"
    with on_lasting_broker(setting) as (one, kafka):
        run = one.gridgov
        flowing_from_start(run)
        kafka.stop()
        for number in range(PENDING):
            sent = report(f"{one.prefix}-{number}", report_id=f"{one.prefix}-{number}")
            one.ledger.sent(sent)
            status, receipt, _ = run.post(sent)
            assert status == 202, receipt
            one.ledger.accepted(receipt)
        run.stop()
        kafka.start()
        run.env = {**run.env, **sabotage(failing_reads={"most": 2, "log": str(log)}, **more)}
        flowing_from_start(run)
        found = one.judged(breaks=1)
        aside = len(list(run.data_dir.glob("corrupt-*")))
    return told([], found.met and aside == 0, f"{log.stat().st_size} reads failed, {aside} set aside; {found.figures}")


# ---- slowness ----


def slow(setting: Setting, **more: dict[str, Any]) -> Seen:
    """Every flush of every database, in both processes, takes 50 ms."""
    with on_lasting_broker(setting, **sabotage(slow_flushes={"seconds": SLOW_SECONDS}, **more)) as (one, _):
        flowing_from_start(one.gridgov)
        return _posted_steadily(one, 10 if setting.short else 30)


def slow_by_strace(setting: Setting, **more: dict[str, Any]) -> Seen:
    """The same from the kernel, for the web process."""
    with on_lasting_broker(setting, **sabotage(**more)) as (one, _):
        flowing_from_start(one.gridgov)
        with straced(one.gridgov, lambda: f"delay_exit={int(SLOW_SECONDS * 1e6)}", requests=False):
            return _posted_steadily(one, 30)


def _posted_steadily(one: Trial, seconds: float) -> Seen:
    """A hundred posts a second, on a timetable: clients that pause after each would post less when answers are slow."""
    with one.clients(threads=CLIENTS, every=CLIENTS / RATE) as clients:
        pause(CLIENTS / RATE)  # until all have begun
        begin, before = time.monotonic(), clients.answered
        pause(seconds)
        end, after = time.monotonic(), clients.answered
        rate, p99 = (after - before) / (end - begin), one.ledger.p99(begin, end)
    found = one.judged(breaks=0)
    steady = rate >= 0.95 * RATE and clients.told.keys() == {"accepted"}
    figures = f"{rate:.0f} posts/s, p99 {p99 * 1000:.0f} ms, {dict(clients.told)}; {found.figures}"
    return told([], found.met and steady and p99 <= P99_SECONDS, figures)


# ---- strace ----


@contextmanager
def straced(
    run: Gridgov, fault: Callable[[], str], most: int | None = None, *, requests: bool = True
) -> Iterator[Callable[[], int]]:
    """The flushes of the web worker, and of each that takes its place, meet a fault; gives the number of those met.

    Nobody meets any more once it is `most`. Without `requests` the threads that answer them, and flush nothing, go on
    at their own speed: strace stops a thread at every system call, whichever it traces.
    """
    book, stop, seen = run.data_dir.parent / "strace", threading.Event(), set[int]()
    book.touch()

    def met() -> int:
        return book.read_text().count("(INJECTED)") + book.read_text().count("(DELAYED)")

    def attach() -> None:
        with ExitStack() as attached:
            while not stop.wait(0.02) and (most is None or met() < most):
                with suppress(AssertionError, FileNotFoundError):
                    if (pid := run.child("worker")) not in seen:
                        seen.add(pid)
                        attached.callback(end, _strace(pid, fault(), book, requests=requests))

    def end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(10)

    thread = threading.Thread(target=attach)
    thread.start()
    try:
        until(lambda: seen, "strace is there")
        yield met
    finally:
        stop.set()
        thread.join()


def _strace(pid: int, fault: str, book: Path, *, requests: bool) -> subprocess.Popen[bytes]:
    calls = "fsync,fdatasync"
    options = ["-q", "-A", "-o", str(book), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    threads = ["-f", "-p", str(pid)] if requests else [f"--attach={thread}" for thread in _others(pid)]
    return subprocess.Popen(["strace", *options, *threads], stderr=subprocess.DEVNULL)


def _others(pid: int) -> list[str]:
    """The threads of a web worker that are not granian's for requests."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [task.name for task in tasks if (task / "comm").read_text().strip() != "tokio-rt-worker"]


ROWS += [
    Row(
        "EIO on 1 % of flushes",
        "503 and a new start, no 202 for a failed commit",
        eio,
        partial(eio, credulous={}),
        "believes that the commit went well",
        in_short=True,
    ),
    Row(
        "EIO on 1 % of flushes, by strace",
        "503 and a new start, no 202 for a failed commit",
        eio_by_strace,
        partial(eio_by_strace, credulous={}),
        "believes that the commit went well",
        needs=("strace", "root"),
    ),
    Row(
        "EIO at the start",
        "the same journal goes on, 0 lost",
        eio_at_start,
        partial(eio_at_start, suspicious={}),
        "an I/O error counts as corruption",
        in_short=True,
    ),
    Row(
        "flushes of 50 ms",
        "100 posts/s, p99 ≤ 500 ms, 202 only",
        slow,
        partial(slow, ungrouped={}),
        "one report per transaction",
    ),
    Row(
        "flushes of 50 ms, by strace",
        "100 posts/s, p99 ≤ 500 ms, 202 only",
        slow_by_strace,
        partial(slow_by_strace, ungrouped={}),
        "one report per transaction",
        needs=("strace", "root"),
    ),
]
