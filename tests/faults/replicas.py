"""Several gridgovs on one PostgreSQL, and a row about a leader that is cut off from it."""

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
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept, Trial, relay_sample, trial
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
        ways: Sequence[int] = (),
        broken: Mapping[str, str] | None = None,
    ) -> None:
        """`ways`: for each replica the port by which it reaches the server, where that is not the server's own."""
        first = one.gridgov
        directories = [first.data_dir.parent / f"replica-{number}" for number in range(1, REPLICAS)]
        self.all = [first, *[Gridgov(directory, first.kafka, dict(first.env)) for directory in directories]]
        for gridgov, port in zip(self.all, ways, strict=False):
            assert isinstance(server, Postgresql)
            url = server.url.replace(f":{server.port}/", f":{port}/")
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
        "a leader cut off from PostgreSQL",
        "another leads < 15 s, 0 lost, copies ≤ a window a break",
        cut_off,
        partial(cut_off, broken={"relay": "watching"}),
        "nobody looks whether it beats",
    ),
]
