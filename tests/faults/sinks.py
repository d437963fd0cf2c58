"""Rows about the sub-centre: what it makes of the topics while its readers, the relay and the broker are killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from tests.broker import Broker, free_port
from tests.faults.processes import kill_relay_with_messages_in_flight
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import PR_SET_PDEATHSIG, ROOT, Kept, Trial, flowing, trial
from tests.gridgov import until
from tests.histories import histories, mixed
from tests.postgresql import Postgresql
from tests.sunk import cases as in_the_table
from tests.sunk import count, differences, rows
from tests.system.case_pages import every_case

MEMBERS = ("sink-1", "sink-2", "own-1", "own-2", "forgetful-1")
GUESTS = ("sink-3", "own-3")  # they come and go: the groups share out their partitions anew
TABLES = {"sink": "reports", "own": "received", "forgetful": "received"}
BROKER = {"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000"}
SUB_CENTRE_SECONDS = 120.0  # to have everything, once nothing is broken any more


@dataclass(frozen=True)
class Plan:
    """How often what is broken, and how many generated cases there are beside the clients' own."""

    kills: int
    rebalances: int  # a guest comes, a guest goes, or a member is frozen until the others have taken its partitions
    stops: int  # of the broker
    relay_kills: int
    cases: int


class SubCentre(Kept):
    """Members of both groups, kept going as systemd would; each with a metrics port of its own."""

    def __init__(self, one: Trial, urls: dict[str, str], *names: str) -> None:
        super().__init__(one.gridgov, *names)
        self._urls = urls

    def freeze(self, name: str, seconds: float) -> None:
        """A member that does not know that it was given up."""
        pid = self.signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def _start(self, name: str, log: Any) -> subprocess.Popen[bytes]:
        what = name.partition("-")[0]
        env = {"GRIDGOV_SINK_METRICS_PORT": str(free_port()), "GRIDGOV_SINK_DATABASE": self._urls[what]}
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.sub_centre", what],
            env=self._gridgov.environment() | env,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            preexec_fn=partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, int(signal.SIGKILL)),
        )


class SubCentreUnderFire:
    """One run, in which everything is broken in turn; its control is a reader of the same run."""

    def __init__(self) -> None:
        self._control: Seen | None = None

    def exactly_once(self, setting: Setting) -> Seen:
        """Every report has one row, and every case is right."""
        plan = Plan(3, 2, 1, 2, 60) if setting.short else Plan(50, 10, 5, 5, 2000)
        with ExitStack() as stack:
            server = Postgresql()
            stack.callback(server.remove)
            server.start()
            kafka = Broker(setting.directory / "kafka", settings=BROKER)
            one = stack.enter_context(trial(setting, kafka, GRIDGOV_CASE_GRACE="5"))
            relay = stack.enter_context(Kept(one.gridgov, "web", "relay"))
            flowing(one.gridgov)
            urls = {what: f"sqlite:///{setting.directory / what}.db" for what in TABLES} | {"sink": server.url}
            centre = SubCentre(one, urls, *MEMBERS)
            stack.enter_context(centre)
            posted = _broken(plan, Random(setting.seed), one, kafka, relay, centre, urls)
            found = one.judged(breaks=plan.relay_kills + plan.stops)
            wrong = _verdict(one, urls, found.status["accepted"]) + found.verdict.problems[:1]
            self._control = _doubles(urls["forgetful"])
        told = (
            f"{plan.kills} kills, {plan.rebalances} rebalances, {plan.stops} broker stops, {plan.relay_kills} relay"
            f" kills: {posted} and {found.verdict.distinct} reports, {found.copies} copies in Kafka"
        )
        return Seen(not wrong and found.copies > 0, f"{told}; {'; '.join(wrong) or 'exact'}")

    def control(self, _: Setting) -> Seen:
        """What the forgetful reader of that run has."""
        assert self._control is not None, "the run has not come so far"
        return self._control


def _broken(
    plan: Plan, dice: Random, one: Trial, kafka: Broker, relay: Kept, centre: SubCentre, urls: dict[str, str]
) -> int:
    """Break everything while clients post; how many reports of generated cases were posted beside theirs."""
    with one.clients(threads=8, pace=0.03) as clients:
        posted = _post(one, dice, plan.cases)
        for act in _acts(plan, dice):
            time.sleep(dice.uniform(0, 1.0))
            if act == "kill":
                centre.signal(dice.choice(MEMBERS))
            elif act == "guest":
                with SubCentre(one, urls, *GUESTS):
                    time.sleep(dice.uniform(2, 4))
            elif act == "freeze":
                centre.freeze(dice.choice(MEMBERS), 4)
            elif act == "relay":
                kill_relay_with_messages_in_flight(one.gridgov, clients, relay, kafka, dice)
            else:
                (kafka.stop, kafka.kill)[dice.randrange(2)]()
                time.sleep(dice.uniform(0, 2))
                kafka.start()
    return posted


def _acts(plan: Plan, dice: Random) -> list[str]:
    """A guest that comes and goes is two rebalances, and so is a member that is frozen and comes to again."""
    pairs = [("guest", "freeze")[number % 2] for number in range(plan.rebalances // 2)]
    acts = [*["kill"] * plan.kills, *pairs, *["broker"] * plan.stops, *["relay"] * plan.relay_kills]
    dice.shuffle(acts)
    return acts


def _post(one: Trial, dice: Random, cases: int) -> int:
    told = mixed(dice, list(histories(dice, cases, "h")))
    for start in range(0, len(told), 100):
        status, body, _ = one.gridgov.post(told[start : start + 100], "/v1/reports/batch")
        assert status == 202, body
    return len(told)


def _verdict(one: Trial, urls: dict[str, str], accepted: int) -> list[str]:
    """What is wrong in the sub-centre, once it has had time to read everything; empty when all is exact."""

    def has() -> dict[str, int]:
        return {what: count(urls[what], table) for what, table in TABLES.items()}

    try:
        until(lambda: set(has().values()) == {accepted}, "all is there", seconds=SUB_CENTRE_SECONDS, every=0.5)
    except AssertionError:
        return [f"of {accepted} reports the tables have {has()}"]
    wrong = [] if (own := _doubles(urls["own"])).met else [own.figures]
    for what, url in urls.items():
        wrong += [f"{what} has set aside {one}" for one in rows(url, "SELECT what, reason FROM gridgov_aside")]
    return wrong + _unlike(one, urls["sink"])


def _doubles(url: str) -> Seen:
    """What stands more than once in a table that has no key."""
    times = Counter(many for _, many in rows(url, "SELECT report_id, COUNT(*) FROM received GROUP BY 1"))
    wrong = [f"{many} reports {often} times in a table without a key" for often, many in times.items() if often > 1]
    return Seen(not wrong, "; ".join(wrong) or "each report once")


def _unlike(one: Trial, url: str) -> list[str]:
    """Cases that differ from gridgov's own; both judge by the second, so one may be a moment behind."""
    seen: list[str] = []

    def same() -> bool:
        ours, as_of = every_case(one.gridgov)
        seen[:] = differences(in_the_table(url, as_of), ours)
        return not seen

    try:
        until(same, "the cases are the same", seconds=20, every=1)
    except AssertionError:
        print("\n".join(f"    {line}"[:300] for line in seen[:5]), flush=True)
        return [f"{len(seen)} differences between the table and /v1/cases"]
    return []


_fire = SubCentreUnderFire()
ROWS += [
    Row(
        "the sub-centre's readers are killed",
        "one row per report, cases as /v1/cases",
        _fire.exactly_once,
        _fire.control,
        "one of its readers has no watermark",
        needs=("postgresql",),
        in_short=True,
    ),
]
