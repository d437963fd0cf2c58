"""Rows about three gridgovs on one PostgreSQL: they are killed, the leader and the server too, and its disk is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from service.journal.postgresql.server import Server
from service.storage.postgresql import TABLES
from tests.faults.replicas import Replicas
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import PATIENCE, each, trial
from tests.gridgov import until
from tests.postgresql import Pair, unordered
from tests.system.clients import Clients

BEHIND = 1.5  # seconds that a standby has not heard of its primary when that is lost


@dataclass(frozen=True)
class Plan:
    """How many reports at least, and how often what is killed meanwhile."""

    reports: int
    web: int
    leader: int
    server: int
    promotion: int

    @property
    def breaks(self) -> int:
        return self.leader + self.server + self.promotion

    @property
    def told(self) -> str:
        kills = f"{self.web} web, {self.leader} leader, {self.server} server kills"
        return f"{kills}, {self.promotion} promoted standby" if self.promotion else kills


FULL = Plan(10_000, web=100, leader=20, server=10, promotion=1)
KILLS = Plan(1000, web=10, leader=3, server=2, promotion=0)
PROMOTION = Plan(600, web=2, leader=1, server=1, promotion=1)


@dataclass
class Crashes:
    """What is done to replicas and their server, by dice."""

    plan: Plan
    seed: int
    replicas: Replicas
    server: Pair
    led: list[float] = field(default_factory=list)  # seconds from the kill of a leader until another led

    def while_answered(self, clients: Clients) -> None:
        """Two at the same time; the server on this thread, as it dies with the one that starts it."""
        plan, web_dice, dice = self.plan, Random(f"{self.seed} web"), Random(f"{self.seed} server")
        acts: list[Callable[[], object]] = [self.kill_leader] * plan.leader
        acts += [partial(self.crash_server, dice)] * plan.server
        dice.shuffle(acts)
        middle = len(acts) // 2
        acts[middle:middle] = [partial(self.server.promote, BEHIND)] * plan.promotion
        with ThreadPoolExecutor(1) as pool:
            web = pool.submit(each, clients, plan.reports, plan.web, web_dice, partial(self.kill_web, web_dice))
            each(clients, plan.reports, len(acts), dice, lambda number: acts[number]())
            web.result()
        until(lambda: clients.answered >= plan.reports, "the rest is answered", seconds=PATIENCE)

    def kill_web(self, dice: Random, number: int) -> None:
        dice.choice(self.replicas.kept).signal(("worker", "web")[number % 2])

    def kill_leader(self) -> None:
        pid = self.replicas.kept[self.replicas.leader()].signal("relay")
        began = time.monotonic()
        until(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")
        self.replicas.leader()
        self.led.append(time.monotonic() - began)

    def crash_server(self, dice: Random) -> None:
        self.server.crash()
        time.sleep(dice.uniform(0, 2))
        self.server.start()


def crash_loop(setting: Setting, plan: Plan = FULL, *, ordered: bool = True, synchronous: bool = True) -> Seen:
    """Each post goes to the next replica, also those of one case."""
    with ExitStack() as stack:
        server = Pair()
        stack.callback(server.remove)
        server.begin(synchronous=synchronous)
        if not ordered:
            Server(server.url, TABLES).connect().close()
            unordered(server.url)
        one = stack.enter_context(trial(setting, GRIDGOV_JOURNAL=server.url))
        with ExitStack() as running:
            replicas = Replicas(one, running, server)
            replicas.ready()
            crashes = Crashes(plan, setting.seed, replicas, server)
            urls = [gridgov.url for gridgov in replicas.all]
            with Clients(urls, one.ledger, f"{one.prefix}-c", threads=24, pace=0.05) as clients:
                crashes.while_answered(clients)
            crashes.kill_leader()  # the next one begins with the first that is pending: nothing stays passed by
            found = one.judged(breaks=plan.breaks + 1)
    led = f"another led after {sorted(crashes.led)[len(crashes.led) // 2]:.1f} s, at most {max(crashes.led):.1f} s"
    felt = clients.told["broken"] + clients.told["refused"]
    return Seen(found.met and felt > 0, f"{plan.told}: {found.figures}; {led}")


ROWS += [
    Row(
        "three replicas on one PostgreSQL, all of it killed",
        "0 lost, in order, copies ≤ a window a break, ledger exact",
        crash_loop,
        partial(crash_loop, plan=KILLS, ordered=False),
        "seqs in no order of commits, some of them late",
        needs=("postgresql",),
    ),
    Row(
        "PostgreSQL lost with its disk, a standby promoted",
        "0 lost, in order, copies ≤ a window a break, ledger exact",
        partial(crash_loop, plan=PROMOTION),
        partial(crash_loop, plan=PROMOTION, synchronous=False),
        "no synchronous_standby_names",
        needs=("postgresql",),
        in_short=True,
    ),
]
