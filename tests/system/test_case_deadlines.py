"""Deadlines as they pass, on real processes whose catalogue promises five seconds; Kafka is never there.

Figures are logged: `pytest tests/system/test_case_deadlines.py --log-cli-level=INFO`.
"""

from __future__ import annotations

import logging
import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.gridgov import Gridgov, report, running, until
from tests.system.casebook import NOWHERE, Row, case, corrections, decided, past_sweeps, standard, total

log = logging.getLogger("deadlines")

TABLES = Path(__file__).parents[2] / "schemas" / "catalogue"
LIMIT, GRACE = 5, 2  # seconds
PROMISE = f"""kind,standard,limit_seconds,category,zh,en
repair,arrival,{LIMIT},,到场,staff on site
repair,completion,{2 * LIMIT},,整改,rectified
incident,completion,{LIMIT},,到场并处置完毕,on site and finished
"""
KILLS = 6
SEEN_SECONDS = 10.0  # at most, on a machine that others use too, from the deadline and its grace to the figure


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Gridgov]:
    """A gridgov of a hasty district; nothing runs yet."""
    tables = tmp_path / "catalogue"
    tables.mkdir()
    for file in [*TABLES.glob("*.csv"), *TABLES.glob("*.toml")]:
        shutil.copy(file, tables)
    (tables / "standards.csv").write_text(PROMISE, encoding="utf-8")
    env = {"GRIDGOV_CATALOGUE_DIR": str(tables), "GRIDGOV_CASE_GRACE": str(GRACE)}
    own = Gridgov(tmp_path / "var", NOWHERE, env)
    yield own
    own.stop()


def counted(gridgov: Gridgov, outcome: str) -> float:
    return total(gridgov, "gridgov_case_standard_total", outcome=outcome)


def stalls(count: int, first_deadline: float, apart: float, name: str = "stall") -> dict[str, float]:
    """Incidents that nobody will finish: case → when its deadline has passed, with the grace (Unix seconds)."""
    now = time.time()
    return {f"{name}-{n}": now + first_deadline + n * apart + GRACE for n in range(count)}


def post_reported(gridgov: Gridgov, due: dict[str, float]) -> None:
    for case_id, passed in due.items():
        one = happened(case_id, "incident", "reported", passed - GRACE - LIMIT)
        assert gridgov.post(one | {"report_id": f"{case_id}-reported"})[0] == 202


def happened(case_id: str, kind: str, stage: str, at: float) -> dict[str, Any]:
    category = "0211" if kind == "repair" else "0501"
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return report(case_id, case_id=case_id, kind=kind, category=category, stage=stage, occurred_at=text)


# ---- Kafka is away ----


def test_without_kafka_a_breach_is_seen_within_seconds(quick: Gridgov) -> None:
    with running(quick):
        past_sweeps(quick, 1)
        due = stalls(6, first_deadline=0.5, apart=0.7)
        post_reported(quick, due)
        overdue, breached = watched(quick, len(due))
        deadlines = [passed - GRACE for passed in due.values()]
        late = {
            "overdue, after the deadline": [f"{at - when:.2f}" for at, when in zip(overdue, deadlines, strict=True)],
            "breached, after the grace": [f"{at - when:.2f}" for at, when in zip(breached, due.values(), strict=True)],
        }
        log.info("seconds until a figure told it: %s", late)
        assert all(-0.05 <= float(each) <= SEEN_SECONDS for several in late.values() for each in several)
        assert {standard(case(quick, name), "completion")["outcome"] for name in due} == {"breached"}
        assert (counted(quick, "breached"), corrections(quick)) == (len(due), 0)
        assert quick.status()["settled"] == 0


def watched(gridgov: Gridgov, count: int) -> tuple[list[float], list[float]]:
    """When (Unix seconds) each of so many cases entered the figures as overdue, and as breached."""
    overdue: list[float] = []
    breached: list[float] = []

    def look() -> bool:
        told = {"overdue": total(gridgov, "gridgov_cases_overdue"), "breached": counted(gridgov, "breached")}
        for name, seen in (("overdue", overdue), ("breached", breached)):
            seen.extend([time.time()] * (int(told[name]) - len(seen)))
        return len(breached) == count

    until(look, "all are breached")
    return overdue, breached


# ---- kills ----


@contextmanager
def everything_killed(gridgov: Gridgov) -> Iterator[None]:
    """SIGKILL to `gridgov run`, which takes its children with it; started again at the end."""
    (run,) = gridgov.processes
    run.kill()
    run.wait()
    gridgov.processes.clear()
    until(lambda: all(closed(port) for port in (gridgov.port, gridgov.relay_metrics)), "nobody is left")
    yield
    gridgov.start()
    gridgov.ready()


def closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_killed_before_the_deadline_and_started_after_it(quick: Gridgov) -> None:
    with running(quick):
        due = stalls(1, first_deadline=4, apart=0)
        post_reported(quick, due)
        with everything_killed(quick):
            assert time.time() < due["stall-0"] - GRACE, "killed too late to show anything"
            wait_until(due["stall-0"])
        past_sweeps(quick, 1)
        until(lambda: counted(quick, "breached") == 1, "it is breached")
        past_sweeps(quick, 2)
        assert (counted(quick, "breached"), counted(quick, "met"), corrections(quick)) == (1, 0, 0)
        assert standard(case(quick, "stall-0"), "completion")["outcome"] == "breached"


def test_killed_again_and_again_while_deadlines_pass(quick: Gridgov) -> None:
    """Every round four deadlines pass within three seconds, in which, or soon after, everything is killed."""
    seed = random.SystemRandom().randrange(10**6)
    chance, due, told = random.Random(seed), dict[str, float](), list[float | None]()
    with running(quick):
        for kill in range(KILLS):
            some = stalls(4, first_deadline=-GRACE, apart=0.75, name=f"stall-{kill}")
            post_reported(quick, some)
            due |= some
            wait_until(time.time() + chance.uniform(0, 4))
            told.append(breaches_told(quick))
            with everything_killed(quick):
                pass
        past_sweeps(quick, 1)
        until(lambda: counted(quick, "breached") >= len(due), "all are breached")
        past_sweeps(quick, 2)
        log.info("seed %d: %d deadlines passed; breaches told before each kill: %s", seed, len(due), told)
        assert any(breaches and breaches < len(due) for breaches in told), "no kill fell between two breaches"
        assert (counted(quick, "breached"), counted(quick, "met"), corrections(quick)) == (len(due), 0, 0)
        assert {standard(case(quick, name), "completion")["outcome"] for name in due} == {"breached"}
        assert total(quick, "gridgov_cases_reported_total") == len(due)


def breaches_told(gridgov: Gridgov) -> float | None:
    """None while nobody tells."""
    with suppress(AssertionError, OSError, urllib3.exceptions.HTTPError):
        return counted(gridgov, "breached")
    return None


def wait_until(moment: float) -> None:
    """Until that Unix second."""
    until(lambda: time.time() >= moment, "its time has come", seconds=60)


# ---- stories ----


@dataclass(frozen=True)
class Told:
    """`words`: stage@happened, or stage@happened/sent, in seconds; `steps`: what its completion was counted as."""

    kind: str
    words: str
    steps: str
    phase: str
    arrival: str = ""


INCIDENT, REPAIR = "incident", "repair"
STORIES = {
    "in-time": Told(INCIDENT, "reported@0 arrived@1 finished@4 approved@4.5", "met", "approved"),
    "exactly": Told(INCIDENT, "reported@0 finished@5/0.5 approved@6/1", "met", "approved"),
    "a-millisecond-more": Told(INCIDENT, "reported@0 finished@5.001/0.5 approved@6/1", "breached", "approved"),
    "finished-too-late": Told(INCIDENT, "reported@0 finished@9 approved@9.5", "breached", "approved"),
    "never-approved": Told(INCIDENT, "reported@0 finished@2", "met", "awaiting_approval"),
    "never-finished": Told(INCIDENT, "reported@0 arrived@1", "breached", "in_progress"),
    "all-sent-backwards": Told(INCIDENT, "approved@4/0 finished@3/0.5 arrived@1/1 reported@0/1.5", "met", "approved"),
    "finished-before-reported": Told(INCIDENT, "finished@2/0 reported@0/1 approved@3/2", "met", "approved"),
    "done-before-it-was-reported": Told(INCIDENT, "finished@-9/0 reported@0/1 approved@2", "met", "approved"),
    "approved-before-finished": Told(INCIDENT, "reported@0 approved@3/1 finished@2/3", "breached met", "approved"),
    "sent-late": Told(INCIDENT, "reported@0 finished@4/10 approved@4.5/10.5", "breached met", "approved"),
    "sent-within-the-grace": Told(INCIDENT, "reported@0 finished@4/5.5", "met", "awaiting_approval"),
    "an-hour-late": Told(INCIDENT, "reported@-3600/0 finished@-3597/0.5 approved@-3596/1", "met", "approved"),
    "an-hour-late-and-too-slow": Told(INCIDENT, "reported@-3600/0 finished@-3594/0.5", "breached", "awaiting_approval"),
    "returned-in-time": Told(INCIDENT, "reported@0 finished@1 returned@2 finished@4 approved@4.5", "met", "approved"),
    "returned-and-not-redone": Told(INCIDENT, "reported@0 finished@1 returned@2", "breached", "in_progress"),
    "returned-after-the-deadline": Told(
        INCIDENT, "reported@0 finished@1 approved@2 returned@9 finished@10 approved@11", "met breached", "approved"
    ),
    "returned-late-but-heard-of-first": Told(
        INCIDENT, "reported@0 returned@9/1 finished@1/2 approved@2/3", "breached", "in_progress"
    ),
    "cancelled-in-time": Told(INCIDENT, "reported@0 cancelled@3", "", "cancelled"),
    "cancelled-too-late": Told(INCIDENT, "reported@0 cancelled@9", "breached", "cancelled"),
    "no-report-of-it": Told(INCIDENT, "arrived@0 finished@9 approved@10", "", "approved"),
    "a-railing": Told(REPAIR, "reported@0 arrived@4 finished@9 approved@9.5", "met", "approved", "met"),
    "nobody-came": Told(REPAIR, "reported@0", "breached", "awaiting_arrival", "breached"),
    "came-late": Told(REPAIR, "reported@0 arrived@7.5 finished@9", "met", "awaiting_approval", "breached"),
    "came-in-time-heard-of-late": Told(
        REPAIR, "reported@0 arrived@4/10 finished@9/10.5", "met", "awaiting_approval", "breached met"
    ),
}


def test_stories_as_they_are_sent(quick: Gridgov) -> None:
    """Each in its own order and at its own time, all side by side; each tells its outcome, and all add up."""
    with running(quick):
        past_sweeps(quick, 1)
        send(quick, time.time() + 0.5)
        until(lambda: all(outcomes_of(quick, name) == last_words(name) for name in STORIES), "all is decided")
        past_sweeps(quick, 2)
        for name, story in STORIES.items():
            shown = case(quick, name)
            assert (outcomes_of(quick, name), shown["phase"]) == (last_words(name), story.phase), name
            assert shown["reopenings"] == story.words.count("returned")
        assert told(quick) == expected()
        for one in ("completion", "arrival"):
            last = Counter(last_words(name)[one] for name in STORIES)
            assert [decided(quick, one, outcome) for outcome in ("met", "breached")] == [last["met"], last["breached"]]
        assert total(quick, "gridgov_cases_reported_total") == len(STORIES) - 1


def send(gridgov: Gridgov, start: float) -> None:
    """Post every report of the stories when its time has come."""
    waiting = []
    for name, story in STORIES.items():
        for n, word in enumerate(story.words.split()):
            stage, _, times = word.partition("@")
            at, _, sent = times.partition("/")
            one = happened(name, story.kind, stage, start + float(at)) | {"report_id": f"{name}-{n}"}
            waiting.append((float(sent or at), n, one))
    for sent_at, _, one in sorted(waiting, key=lambda each: each[:2]):
        wait_until(start + sent_at)
        assert gridgov.post(one)[0] == 202, one
        assert time.time() - start - sent_at < GRACE / 2, "the machine is too slow to tell these stories"


def last_words(name: str) -> dict[str, str | None]:
    """What is shown in the end."""
    story = STORIES[name]
    last = {"completion": story.steps, "arrival": story.arrival}
    return {one: steps.split()[-1] if steps else None for one, steps in last.items()}


def outcomes_of(gridgov: Gridgov, name: str) -> dict[str, str | None]:
    shown: Row = case(gridgov, name)
    found = {one["standard"]: one["outcome"] for one in shown["standards"]}
    return {"completion": found["completion"], "arrival": found.get("arrival")}


def expected() -> Counter[tuple[str, str, bool]]:
    """(standard, outcome, whether a correction), over all stories."""
    found: Counter[tuple[str, str, bool]] = Counter()
    for story in STORIES.values():
        for one, steps in (("completion", story.steps), ("arrival", story.arrival)):
            found.update((one, outcome, n > 0) for n, outcome in enumerate(steps.split()))
    return found


def told(gridgov: Gridgov) -> Counter[tuple[str, str, bool]]:
    """The same, as the metrics tell it."""
    found: Counter[tuple[str, str, bool]] = Counter()
    for one in ("completion", "arrival"):
        for outcome in ("met", "breached"):
            first = total(gridgov, "gridgov_case_standard_total", standard=one, outcome=outcome)
            later = total(gridgov, "gridgov_case_standard_corrections_total", standard=one, to=outcome)
            found[one, outcome, False], found[one, outcome, True] = int(first), int(later)
    return +found
