"""Rows about the PostgreSQL under the journal: absent, slow, full, without a connection to spare."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import urllib3

from service.ops import HANG_SECONDS
from tests.broker import Broker
from tests.faults import mounts
from tests.faults.probes import on_lasting_broker, pause, pending, readiness, repeated
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept, Trial
from tests.faults.watched import Watched, accepted_meanwhile, more, server, well
from tests.gridgov import Gridgov, listens, until
from tests.postgresql import Postgresql, alter
from tests.system.clients import Clients


@contextmanager
def at_work(
    setting: Setting, served: Postgresql, broken: Mapping[str, str] | None
) -> Iterator[tuple[Trial, Watched, Kept]]:
    """A gridgov kept going on this server, and well."""
    with (
        on_lasting_broker(setting, GRIDGOV_JOURNAL=served.url) as (one, _),
        Kept(one.gridgov, "web", "relay", broken=broken) as kept,
    ):
        until(partial(well, one.gridgov), "all is well", seconds=90)
        yield one, Watched(one), kept


# ---- absent ----


def absent(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """Not there when gridgov starts; stopped and crashed under load; then Kafka is away, and the server is not."""
    with server() as served, on_lasting_broker(setting, GRIDGOV_JOURNAL=served.url) as (one, kafka):
        served.stop()
        run, watched = one.gridgov, Watched(one)
        with Kept(run, "web", "relay", broken=broken) as kept:
            until(lambda: listens(run.port), "it listens")
            watched.turned_away()
            watched.well_again(served.start)
            pid = kept.pid("web")
            with one.clients(threads=8, pace=0.01) as clients:
                for stop in (served.crash,) if setting.short else (served.crash, served.stop):
                    more(clients)
                    stop()
                    watched.turned_away()
                    late = accepted_meanwhile(clients)
                    if late:
                        watched.wrong.append(f"{late} accepted while there was no server")
                    watched.well_again(served.start)
                refused, waiting = (0, 0) if setting.short else without_kafka(run, clients, kafka)
            watched.answered_at_last()
            same = kept.pid("web") == pid
            figures = f"web lived on: {same}; {waiting} waited for Kafka, {refused} refused meanwhile; "
            return watched.seen(figures, breaks=4, met=same and not refused and (waiting > 0 or setting.short))


def without_kafka(run: Gridgov, clients: Clients, kafka: Broker) -> tuple[int, int]:
    """How many were refused meanwhile, and how many waited for it at the end."""
    refused = clients.told["refused"]
    kafka.stop()
    more(clients, 300)
    until(lambda: readiness(run) == (200, ["kafka_unreachable"]), "/readyz tells that Kafka is away")
    found = clients.told["refused"] - refused, pending(run)
    kafka.start()
    return found


# ---- slow ----


def slow(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """Each commit waits for a standby, which takes its time; then that stands still, and then the server itself."""
    delay = 0.3 if setting.short else 2.0
    with ExitStack() as stack:
        served = stack.enter_context(server(synchronous_commit="remote_apply"))
        standby = Postgresql(served, settings={"recovery_min_apply_delay": f"{delay}s"})
        stack.callback(standby.remove)
        standby.start()
        one, watched, kept = stack.enter_context(at_work(setting, served, broken))
        alter(served.url, "ALTER SYSTEM SET synchronous_standby_names='*'")
        pid = kept.pid("web")
        with one.clients(threads=16, pace=0.01) as clients:
            more(clients)
            began, before = time.monotonic(), clients.told["refused"]
            more(clients, 200)
            slowest, refused = one.ledger.p99(began, time.monotonic()), clients.told["refused"] - before
            long = 0 if setting.short else HANG_SECONDS + 5
            seen = [stood_still(still, long, watched, clients, kept) for still in (standby, served)]
        alter(served.url, "ALTER SYSTEM SET synchronous_standby_names=''")  # the rest need not be slow
        watched.answered_at_last()
        late, threads = (max(figures) for figures in zip(*seen, strict=True))
        same = kept.pid("web") == pid
        told_ = (
            f"commits of {delay} s: p99 {slowest:.1f} s, {refused} refused; stood still: {late} accepted,"
            f" {threads} threads more, web lived on: {same}; "
        )
        met = slowest > delay * 0.9 and not (refused or late) and same and threads < 16
        return watched.seen(told_, breaks=4, met=met)


def stood_still(one: Postgresql, seconds: float, watched: Watched, clients: Clients, kept: Kept) -> tuple[int, int]:
    """A server does not move for so long at least: how many were accepted meanwhile, how many threads wait more."""
    threads, end = threads_of(kept), time.monotonic() + seconds
    one.send(signal.SIGSTOP)
    try:
        pause(3)  # what was on its way arrives
        before = clients.answered
        asked = [asking(watched.one.gridgov) for _ in range(8)]
        watched.turned_away()
        pause(max(0.0, end - time.monotonic()))
        more_threads = threads_of(kept) - threads
        watched.turned_away()
        late = clients.answered - before
    finally:
        one.send(signal.SIGCONT)
    watched.well_again()
    for thread in asked:
        thread.join()
    more(clients)
    return late, more_threads


def asking(run: Gridgov) -> threading.Thread:
    """Somebody asks for a receipt, whether there is an answer or not."""

    def ask() -> None:
        with suppress(urllib3.exceptions.HTTPError):
            run.get("/v1/reports/whatever")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def threads_of(kept: Kept) -> int:
    """Of the process that answers."""
    pid = kept.pid("worker")
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


# ---- full ----


def full(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """Somebody else's file takes all that the server's disk has left."""
    room = Path(tempfile.mkdtemp(prefix="gridgov-postgresql-disk-"))
    with ExitStack() as stack:
        stack.callback(room.rmdir)
        room.chmod(0o755)
        disk = stack.enter_context(emptied(room / "disk"))
        disk.chmod(0o755)
        (disk / "cluster").mkdir()
        served = Postgresql(directory=disk / "cluster")
        stack.callback(served.remove)
        served.start()
        one, watched, kept = stack.enter_context(at_work(setting, served, broken))
        pid = kept.pid("web")
        with one.clients(threads=8, pace=0.01) as clients:
            more(clients)
            filler = mounts.fill(disk)
            until(lambda: readiness(one.gridgov)[0] == 503, "no more can be written", seconds=60)
            watched.turned_away("journal_full")
            watched.wrong += repeated(one, most=20)
            steady = everything_told(one.gridgov, seconds=2 if setting.short or broken else 20)
            filler.unlink()
            watched.well_again(served.start)
            more(clients)
        watched.answered_at_last()
        same = kept.pid("web") == pid
        shown = " ".join(sorted(" ".join(one) for one in steady))
        figures = f"{clients.told['refused']} refused; /readyz {shown}; web lived on: {same}; "
        return watched.seen(figures, breaks=2, met=same and steady == {("503", "journal_full")})


def everything_told(run: Gridgov, seconds: float) -> set[tuple[str, ...]]:
    """Status and reasons of /readyz, looked at for a while."""
    found, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        status, reasons = readiness(run)
        found.add((str(status), *reasons))
        pause(0.05)
    return found


@contextmanager
def emptied(at: Path) -> Iterator[Path]:
    """A small disk; its place is gone afterwards."""
    try:
        with mounts.tmpfs(at, mebibytes=128) as disk:
            yield disk
    finally:
        at.rmdir()


# ---- out of connections ----


class Hogs:
    """Other clients, who take every connection that is free and keep it."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, threading.Event()
        self._held: list[psycopg.Connection[tuple[object, ...]]] = []
        self._refusals = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> Hogs:
        for thread in self._threads:
            thread.start()
        self._until_refused()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for one in self._held:
            one.close()

    def drive_out(self, application: str) -> None:
        """End the sessions of a client until it has none, and nothing is free."""
        sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE %s"

        def gone() -> bool:
            self._held[0].execute(sql, [application])
            self._until_refused()
            return self._held[0].execute(sql, [application]).fetchone() == (0,)

        until(gone, "they are gone")

    def _until_refused(self) -> None:
        """None of them, asking since now, is given one more."""
        before = self._refusals
        until(lambda: self._refusals >= before + 2 * len(self._threads), "no connection is free")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._held.append(psycopg.connect(self._url, autocommit=True))
            except psycopg.OperationalError:
                self._refusals += 1
                self._stop.wait(0.001)


def crowded(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """Other clients take all connections, at first what is left, then also ours."""
    with (
        server(max_connections="25") as served,
        at_work(setting, served, broken) as (one, watched, kept),
    ):
        pid = kept.pid("web")
        with one.clients(threads=8, pace=0.01) as clients:
            more(clients)
            with Hogs(served.url) as hogs:
                more(clients)
                hogs.drive_out("gridgov%")
                watched.turned_away()
                late = accepted_meanwhile(clients)
            watched.well_again()
            more(clients)
        watched.answered_at_last()
        same = kept.pid("web") == pid
        figures = f"{clients.told['refused']} refused, {late} accepted without a connection; web lived on: {same}; "
        return watched.seen(figures, breaks=2, met=same and not late)


PROMISELESS = {"web": "flush"}
ROWS += [
    Row(
        "PostgreSQL absent, then Kafka",
        "503, not ready, alive; back < 10 s by itself, 0 lost",
        absent,
        partial(absent, broken=PROMISELESS),
        "answers before the commit",
        needs=("postgresql",),
        in_short=True,
    ),
    Row(
        "PostgreSQL slow, then hanging",
        "202 after the commit; 503 < 13 s, alive; 0 lost",
        slow,
        partial(slow, broken={"web": "patience"}),
        "waits until PostgreSQL answers",
        needs=("postgresql",),
    ),
    Row(
        "PostgreSQL's disk full",
        "503, not ready, repeats 202; back < 10 s, 0 lost",
        full,
        partial(full, broken=PROMISELESS),
        "answers before the commit",
        needs=("root", "postgresql"),
        in_short=True,
    ),
    Row(
        "PostgreSQL out of connections",
        "503, not ready, alive; back < 10 s by itself, 0 lost",
        crowded,
        partial(crowded, broken=PROMISELESS),
        "answers before the commit",
        needs=("postgresql",),
    ),
]
