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
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from tests.broker import Broker, free_port
from tests.faults.processes import kill_relay_with_messages_in_flight
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import PR_SET_PDEATHSIG, ROOT, Kept, Trial, flowing, trial
from tests.gridgov import Gridgov, until
from tests.histories import histories, mixed
from tests.postgresql import Postgresql
from tests.sunk import cases as in_the_table
from tests.sunk import count, differences, rows
from tests.system.case_pages import every_case

MEMBERS = ("sink-1", "sink-2", "lite-1", "own-1", "own-2", "forgetful-1")
GUESTS = ("sink-3", "lite-2", "own-3")  # they come and go: the groups share out their partitions anew
TABLES = {"sink": "reports", "lite": "reports", "own": "received", "forgetful": "received"}
SCENARIOS = ("rain", "retry-storm", "operation")
ZONE = ZoneInfo("Asia/Shanghai")
BATCH = 100  # posts in a request
BROKER = {"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000"}
SUB_CENTRE_SECONDS = 120.0  # to have everything, once nothing is broken any more
GRACE_SECONDS = "30"  # more than from one part of a day to the next, on a machine that others use too


@dataclass(frozen=True)
class Plan:
    """How often what is broken; how many cases a dry day has, and how many odd ones there are beside it."""

    kills: int
    rebalances: int  # a guest comes, a guest goes, or a member is frozen until the others have taken its partitions
    stops: int  # of the broker
    relay_kills: int
    cases: int
    odd: int


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
        plan = Plan(3, 2, 1, 2, 100, 60) if setting.short else Plan(50, 10, 5, 5, 2000, 2000)
        with ExitStack() as stack:
            server = Postgresql()
            stack.callback(server.remove)
            server.start()
            kafka = Broker(setting.directory / "kafka", settings=BROKER)
            one = stack.enter_context(trial(setting, kafka, GRIDGOV_CASE_GRACE=GRACE_SECONDS))
            relay = stack.enter_context(Kept(one.gridgov, "web", "relay"))
            flowing(one.gridgov)
            urls = {what: f"sqlite:///{setting.directory / what}.db" for what in TABLES} | {"sink": server.url}
            centre = SubCentre(one, urls, *MEMBERS)
            stack.enter_context(centre)
            day = Day(one.gridgov, setting.seed, plan.cases)
            _broken(plan, Random(setting.seed), day, one, kafka, relay, centre, urls)
            found = one.judged(breaks=plan.relay_kills + plan.stops)
            accepted = found.status["accepted"]
            wrong = _verdict(one, urls, accepted) + day.untrue() + found.verdict.problems[:1]
            self._control = _doubles(urls["forgetful"])
        told = (
            f"{plan.kills} kills, {plan.rebalances} rebalances, {plan.stops} broker stops, {plan.relay_kills} relay"
            f" kills: {accepted} reports, {day.cases} cases of a simulated day, {found.copies} copies in Kafka"
        )
        return Seen(not wrong and found.copies > 0, f"{told}; {'; '.join(wrong) or 'exact'}")

    def control(self, _: Setting) -> Seen:
        """What the forgetful reader of that run has."""
        assert self._control is not None, "the run has not come so far"
        return self._control


class Day:
    """A day of the past that `gridgov simulate` tells, the same for a seed; it also knows what must come of it."""

    def __init__(self, gridgov: Gridgov, seed: int, cases: int) -> None:
        over = datetime.now(ZONE).date() - timedelta(days=5)  # the last of its repairs is approved by now
        scenarios = (word for name in SCENARIOS for word in ("--scenario", name))
        self._gridgov = gridgov
        self._words = ("simulate", "--day", str(over), "--seed", str(seed), "--cases", str(cases), *scenarios)
        self.posts = gridgov.run(*self._words, "--dry-run", check=True).stdout.encode().splitlines()
        self.cases = len({orjson.loads(one)["case_id"] for one in self.posts})

    def share(self, number: int, of: int) -> list[bytes]:
        """Its `number`th part, of so many in the order of the day."""
        start, end = (len(self.posts) * n // of for n in (number, number + 1))
        return self.posts[start:end]

    def untrue(self) -> list[str]:
        """Whether gridgov came to something else than the simulation, which shares no code with it nor with the sink.

        It posts all of the day again, which changes nothing.
        """
        done = self._gridgov.run(*self._words, "--check", "--wait", "60", timeout=300)
        if done.returncode == 0:
            return []
        lines = done.stdout.splitlines()
        print("\n".join(f"    {line}"[:300] for line in lines[-5:-1]), flush=True)  # cases that differ
        return [f"gridgov's figures: {lines[-1:]} {done.stderr}"]


def _broken(
    plan: Plan, dice: Random, day: Day, one: Trial, kafka: Broker, relay: Kept, centre: SubCentre, urls: dict[str, str]
) -> None:
    """Break everything while the day is told, and clients post beside it."""
    with one.clients(threads=8, pace=0.03) as clients:
        _post(one.gridgov, [orjson.dumps(told) for told in mixed(dice, list(histories(dice, plan.odd, "h")))])
        acts = _acts(plan, dice)
        for number, act in enumerate(acts):
            _post(one.gridgov, day.share(number, len(acts)))
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


def _acts(plan: Plan, dice: Random) -> list[str]:
    """A guest that comes and goes is two rebalances, and so is a member that is frozen and comes to again."""
    pairs = [("guest", "freeze")[number % 2] for number in range(plan.rebalances // 2)]
    acts = [*["kill"] * plan.kills, *pairs, *["broker"] * plan.stops, *["relay"] * plan.relay_kills]
    dice.shuffle(acts)
    return acts


def _post(gridgov: Gridgov, lines: list[bytes]) -> None:
    """In batches, one after the other."""
    for start in range(0, len(lines), BATCH):
        body = b"\n".join(lines[start : start + BATCH])
        status, told, _ = gridgov.post(body, "/v1/reports/batch", Content_Type="application/x-ndjson")
        assert (status, told["failed"]) == (202, 0), told


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
    return wrong + _unlike(one, urls["sink"]) + _unlike(one, urls["lite"])


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
        until(same, "the cases are the same", seconds=60, every=1)
    except AssertionError:
        print("\n".join(f"    {line}"[:300] for line in seen[:5]), flush=True)
        return [f"{len(seen)} differences between {url.partition(':')[0]}'s table and /v1/cases"]
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
