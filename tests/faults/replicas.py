"""Rows about several gridgovs on one PostgreSQL: killed in turn, also the leader and the server; a leader cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from random import Random

import urllib3

from service.journal.postgresql.server import Server
from service.storage.postgresql import TABLES
from tests.broker import free_port
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import PATIENCE, Kept, Trial, each, relay_sample, trial
from tests.gridgov import Gridgov, die_with_parent, listens, until
from tests.postgresql import Postgresql, unordered
from tests.system.clients import Clients

REPLICAS = 3
CUT_SECONDS = 30.0


@dataclass(frozen=True)
class Plan:
    """How many reports at least, and how often what is killed meanwhile."""

    reports: int
    web: int
    leader: int
    server: int


class Replicas:
    """Three of them, kept going, on one PostgreSQL."""

    def __init__(
        self,
        one: Trial,
        stack: ExitStack,
        server: Postgresql,
        *,
        ways: Sequence[int] = (),
        broken: Mapping[str, str] | None = None,
    ) -> None:
        """`ways`: for each replica the port by which it reaches the server, where that is not the server's own."""
        first = one.gridgov
        directories = [first.data_dir.parent / f"replica-{number}" for number in range(1, REPLICAS)]
        self.all = [first, *[Gridgov(directory, first.kafka, dict(first.env)) for directory in directories]]
        for gridgov, port in zip(self.all, ways, strict=False):
            url = server.url.replace(f":{server.port}/", f":{port}/")
            gridgov.env = {**gridgov.env, "GRIDGOV_JOURNAL": url}
        self.kept = [stack.enter_context(Kept(gridgov, "web", "relay", broken=broken)) for gridgov in self.all]
        self.server = server
        self.led: list[float] = []  # seconds from the kill of a leader until another led

    def ready(self) -> None:
        for gridgov in self.all:
            until(lambda gridgov=gridgov: gridgov.get("/readyz")[1]["status"] == "ready", "all is well", seconds=90)  # type: ignore[misc]

    def leader(self) -> int:
        found: int = until(lambda: self._leader() + 1, "one leads", seconds=60) - 1
        return found

    def kill_leader(self) -> None:
        led = self.leader()
        self.kept[led].signal("relay")
        began = time.monotonic()
        until(lambda: self._leader() not in (-1, led), "another leads", seconds=60)
        self.led.append(time.monotonic() - began)

    def kill_web(self, dice: Random, number: int) -> None:
        dice.choice(self.kept).signal(("worker", "web")[number % 2])

    def crash_server(self, dice: Random) -> None:
        self.server.crash()
        time.sleep(dice.uniform(0, 2))
        self.server.start()

    def leads(self, number: int) -> bool:
        with suppress(urllib3.exceptions.HTTPError):
            return relay_sample(self.all[number], "gridgov_relay_leader") == 1
        return False

    def leads_beside(self, led: int) -> bool:
        """Whether another than this one does."""
        return any(self.leads(number) for number in range(REPLICAS) if number != led)

    def _leader(self) -> int:
        """-1: none."""
        return next(filter(self.leads, range(REPLICAS)), -1)


def crash_loop(setting: Setting, *, ordered: bool = True) -> Seen:
    """Each post goes to the next replica, also those of one case."""
    plan = Plan(1000, 10, 3, 2) if setting.short or not ordered else Plan(10_000, 100, 20, 10)
    with ExitStack() as stack:
        server = Postgresql()
        stack.callback(server.remove)
        server.start()
        if not ordered:
            Server(server.url, TABLES).connect().close()
            unordered(server.url)
        one = stack.enter_context(trial(setting, GRIDGOV_JOURNAL=server.url))
        with ExitStack() as running:
            replicas = Replicas(one, running, server)
            replicas.ready()
            urls = [gridgov.url for gridgov in replicas.all]
            with Clients(urls, one.ledger, f"{one.prefix}-c", threads=24, pace=0.05) as clients:
                _kill_everything(plan, setting.seed, clients, replicas)
            if not ordered and (passed_by := _never_read(one)):
                return Seen(met=False, figures=f"{passed_by} reports stay pending: the relay has passed them by")
            found = one.judged(breaks=plan.leader + plan.server)
    told = f"{plan.web} web, {plan.leader} leader kills, {plan.server} of the server: {found.figures}"
    led = f"another led after {sorted(replicas.led)[len(replicas.led) // 2]:.1f} s, at most {max(replicas.led):.1f} s"
    return Seen(found.met and clients.told["broken"] > 0, f"{told}; {led}")


def _never_read(one: Trial) -> int:
    """How many are pending for good."""
    try:
        one.gridgov.settled(60)
    except AssertionError:
        return int(one.gridgov.status()["pending"])
    return 0


def _kill_everything(plan: Plan, seed: int, clients: Clients, replicas: Replicas) -> None:
    """Two at the same time; the server on this thread, as it dies with the one that starts it."""
    dice = {name: Random(f"{seed} {name}") for name in ("web", "leader", "server")}
    with ThreadPoolExecutor(1) as pool:
        kill_web = partial(replicas.kill_web, dice["web"])
        web = pool.submit(each, clients, plan.reports, plan.web, dice["web"], kill_web)
        acts = ["leader"] * plan.leader + ["server"] * plan.server
        dice["leader"].shuffle(acts)

        def strike(number: int) -> None:
            if acts[number] == "leader":
                replicas.kill_leader()
            else:
                replicas.crash_server(dice["server"])

        each(clients, plan.reports, len(acts), dice["leader"], strike)
        web.result()
    until(lambda: clients.answered >= plan.reports, "the rest is answered", seconds=PATIENCE)


# ---- a leader that is cut off ----

PASS_ON = """
import asyncio, sys

async def pump(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()

async def way(reader, writer):
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(way, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""


@contextmanager
def passed_on(server: Postgresql) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A port from where bytes are passed on to a server, and the process that does it.

    While that is stopped nothing comes through, and neither side's kernel can tell: worse than a cable that is cut.
    """
    port = free_port()
    command = [sys.executable, "-c", PASS_ON, str(port), str(server.port)]
    with subprocess.Popen(command, preexec_fn=die_with_parent) as process:
        try:
            until(lambda: listens(port), "bytes are passed on")
            yield port, process
        finally:
            process.kill()


def cut_off(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """The leader's way to the server lets nothing through for a while; posts go to the others."""
    with ExitStack() as stack:
        server = Postgresql()
        stack.callback(server.remove)
        server.start()
        one = stack.enter_context(trial(setting, GRIDGOV_JOURNAL=server.url))
        with ExitStack() as running:
            ways = [running.enter_context(passed_on(server)) for _ in range(REPLICAS)]
            replicas = Replicas(one, running, server, ways=[port for port, _ in ways], broken=broken)
            replicas.ready()
            led = replicas.leader()
            others = [gridgov.url for number, gridgov in enumerate(replicas.all) if number != led]
            with Clients(others, one.ledger, f"{one.prefix}-c", threads=8, pace=0.02) as clients:
                until(lambda: clients.answered >= 200, "posts flow", seconds=60)
                os.kill(ways[led][1].pid, signal.SIGSTOP)
                began = time.monotonic()
                while not replicas.leads_beside(led) and time.monotonic() < began + CUT_SECONDS:
                    time.sleep(0.05)
                seconds = time.monotonic() - began
                time.sleep(max(0.0, CUT_SECONDS - seconds) if not setting.short else 1)
                os.kill(ways[led][1].pid, signal.SIGCONT)
                until(lambda: broken or not replicas.leads(led), "the one that was cut off leads no more", seconds=60)
                before = clients.answered
                until(lambda: clients.answered >= before + 200, "posts flow", seconds=60)
            one.gridgov.env = {**one.gridgov.env, "GRIDGOV_JOURNAL": server.url}
            found = one.judged(breaks=2)
    return Seen(found.met and seconds < 15, f"another led after {seconds:.1f} s; {found.figures}")


ROWS += [
    Row(
        "three replicas on one PostgreSQL, all of it killed",
        "0 lost, in order, copies ≤ a window a break, ledger exact",
        crash_loop,
        partial(crash_loop, ordered=False),
        "seqs in no order of commits",
        in_short=False,
    ),
    Row(
        "a leader cut off from PostgreSQL",
        "another leads < 15 s, 0 lost, copies ≤ a window a break",
        cut_off,
        partial(cut_off, broken={"relay": "watching"}),
        "nobody looks whether it beats",
    ),
]
