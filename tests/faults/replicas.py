"""Several gridgovs on one PostgreSQL, and rows about a leader that is cut off from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import urllib3

from tests.broker import free_port
from tests.faults.networks import NETWORK, in_own_network
from tests.faults.probes import told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept, Trial, relay_sample, trial
from tests.faults.watched import BACK_SECONDS, Watched, more, server
from tests.gridgov import Gridgov, die_with_parent, listens, until
from tests.postgresql import Pair, Postgresql
from tests.system.clients import Clients

REPLICAS = 3
CUT_SECONDS = 30.0


class Replicas:
    """Three of them, kept going, on one PostgreSQL."""

    def __init__(
        self,
        one: Trial,
        stack: ExitStack,
        server: Postgresql | Pair,
        *,
        ways: Sequence[str] = (),
        broken: Mapping[str, str] | None = None,
    ) -> None:
        """`ways`: for each replica the address by which it reaches the server, where that is not the server's own."""
        first = one.gridgov
        directories = [first.data_dir.parent / f"replica-{number}" for number in range(1, REPLICAS)]
        self.all = [first, *[Gridgov(directory, first.kafka, dict(first.env)) for directory in directories]]
        for gridgov, url in zip(self.all, ways, strict=False):
            gridgov.env = {**gridgov.env, "GRIDGOV_JOURNAL": url}
        self.kept = [stack.enter_context(Kept(gridgov, "web", "relay", broken=broken)) for gridgov in self.all]

    def ready(self) -> None:
        for gridgov in self.all:
            until(lambda gridgov=gridgov: gridgov.get("/readyz")[1]["status"] == "ready", "all is well", seconds=90)  # type: ignore[misc]

    def leader(self) -> int:
        found: int = until(lambda: self._leader() + 1, "one leads", seconds=60) - 1
        return found

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
            urls = [server.url.replace(f":{server.port}/", f":{port}/") for port, _ in ways]
            replicas = Replicas(one, running, server, ways=urls, broken=broken)
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


def black_hole(setting: Setting, broken: Mapping[str, str] | None = None) -> Seen:
    """No packet passes between the leader and the server for a while; nobody is told. Posts go to the others."""
    with ExitStack() as stack:
        ways = [f"127.0.0.{number + 2}" for number in range(REPLICAS)]
        served = stack.enter_context(server(listen_addresses=",".join(["127.0.0.1", *ways])))
        one = stack.enter_context(trial(setting, GRIDGOV_JOURNAL=served.url))
        with ExitStack() as running:
            urls = [served.url.replace("127.0.0.1", way) for way in ways]
            replicas = Replicas(one, running, served, ways=urls, broken=broken)
            replicas.ready()
            led = replicas.leader()
            cut = Watched(Trial(replicas.all[led], one.ledger, one.prefix))
            others = [gridgov.url for number, gridgov in enumerate(replicas.all) if number != led]
            with Clients(others, one.ledger, f"{one.prefix}-c", threads=8, pace=0.02) as clients:
                more(clients, 200)
                with dropped(ways[led], served.port):
                    began = time.monotonic()
                    while not replicas.leads_beside(led) and time.monotonic() < began + CUT_SECONDS:
                        time.sleep(0.05)
                    seconds = time.monotonic() - began
                    if seconds >= CUT_SECONDS:  # nor would anybody later
                        return Seen(met=False, figures=f"no other led within {CUT_SECONDS:.0f} s")
                    cut.turned_away()
                    time.sleep(max(0.0, began + CUT_SECONDS - time.monotonic()))
                cut.well_again(leading=False)
                until(lambda: broken or not replicas.leads(led), "the one that was cut off leads no more", seconds=60)
                more(clients, 200)
            cut.answered_at_last()
            found = one.judged(breaks=2)
    figures = f"another led after {seconds:.1f} s; well again after {cut.back[0]:.1f} s; {found.figures}"
    return told(cut.wrong, found.met and seconds < 15 and cut.back[0] < BACK_SECONDS, figures)


@contextmanager
def dropped(address: str, port: int) -> Iterator[None]:
    """What goes to this address and port, or comes from there, vanishes; in a network namespace of our own."""
    rules = [["-d", address, "-p", "tcp", "--dport", str(port)], ["-s", address, "-p", "tcp", "--sport", str(port)]]
    for rule in rules:
        subprocess.run(["iptables", "--append", "INPUT", *rule, "-j", "DROP"], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "--delete", "INPUT", *rule, "-j", "DROP"], check=True)


ROWS += [
    Row(
        "a leader cut off from PostgreSQL",
        "another leads < 15 s, 0 lost, copies ≤ a window a break",
        cut_off,
        partial(cut_off, broken={"relay": "watching"}),
        "nobody looks whether it beats",
    ),
    Row(
        "packets between leader and PostgreSQL vanish",
        "another leads < 15 s, 0 lost, copies ≤ a window a break",
        partial(in_own_network, black_hole),
        partial(in_own_network, partial(black_hole, broken={"relay": "noticing"})),
        "neither standby nor server look whether it lives",
        needs=(*NETWORK, "postgresql"),
    ),
]
