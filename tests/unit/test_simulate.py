"""The simulated days: the same every time, fit to be sent, true to their lengths; what must come of them, by hand."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from random import Random

import orjson
import pytest

from schemas import report
from schemas.catalogue import Catalogue
from schemas.times import parse_time
from schemas.words import Kind, Source, Stage, Standard, Supervision
from service.cli.compare import differences, seen
from service.domain.case import Campaign, Fact, apply
from service.domain.case import Case as Folded
from service.domain.standards import Assessment, Rules
from service.domain.view import view
from service.simulate.calls import RAIN, Scenario, Setting, calls
from service.simulate.crews import Crew, Job, visits
from service.simulate.day import days
from service.simulate.expected import Expected, figures, of_case
from service.simulate.run import Run, Words
from service.simulate.telling import STORM, Clock, Post, Telling
from service.simulate.truth import DAY, HOUR, MINUTE, SECOND, Case, Place, Round

CATALOGUE = Catalogue.load()
RULES = Rules(CATALOGUE.limit)
ALL = frozenset(Scenario)
MIDNIGHT = parse_time("2026-11-04T00:00:00+08:00")
HISTORY = Clock(MIDNIGHT, CATALOGUE.timezone)
LIVE = Clock(MIDNIGHT, CATALOGUE.timezone, speed=60.0, begin=9 * HOUR)
HERE = Place(0, 0, "杨树浦路1号近公平路", None, 121.5, 31.25)


def run(seed: int, clock: Clock, cases: int = 120, scenarios: frozenset[Scenario] = ALL) -> Run:
    return Run.of(Words(seed, 1, Setting(CATALOGUE, cases, scenarios)), clock)


def by_case(posts: Iterable[Post]) -> Mapping[str, list[Post]]:
    found = defaultdict(list)
    for post in posts:
        found[post.case_id].append(post)
    return found


# ---- the days ----


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_words_make_the_same_posts_in_every_process(hash_seed: str) -> None:
    command = ["-m", "service.cli", "simulate", "--seed", "7", "--cases", "60", "--day", "2026-11-04", "--dry-run"]
    done = subprocess.run(
        [sys.executable, *command, "--scenario", "rain"],
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )

    expected = run(7, HISTORY, 60, frozenset({Scenario.RAIN}))
    assert done.stdout.splitlines() == [post.line for post in expected.posts]


def test_another_seed_makes_another_day() -> None:
    assert days(1, Setting(CATALOGUE, 50)) != days(2, Setting(CATALOGUE, 50))


def test_a_day_is_the_same_whatever_days_follow() -> None:
    one, two = (days(3, Setting(CATALOGUE, 50, ALL), count) for count in (1, 2))

    assert two[: len(one)] == one
    assert {case.reported // DAY for case in two[len(one) :]} == {1}
    assert [case.number for case in two] == list(range(1, len(two) + 1))


def test_rain_floods_roads_while_it_falls() -> None:
    def flooded(scenarios: frozenset[Scenario]) -> int:
        found = calls(Random(1), Setting(CATALOGUE, 600, scenarios))
        return sum(call.category.code == "0406" and RAIN[0] <= call.reported < RAIN[1] for call in found)

    assert flooded(frozenset({Scenario.RAIN})) > 20 + flooded(frozenset())


def test_an_operation_has_its_cases_supervised() -> None:
    cases = [case for case in days(1, Setting(CATALOGUE, 600, ALL)) if case.in_operation]

    assert len(cases) > 30
    assert {case.supervision for case in cases} == {Supervision.URGENT, Supervision.SUPERVISED}


def test_in_a_retry_storm_all_is_sent_again() -> None:
    def repeats(scenarios: frozenset[Scenario]) -> int:
        return sum(post.again for post in run(1, HISTORY, 600, scenarios).posts)

    stormy = run(1, LIVE, 600, frozenset({Scenario.RETRY_STORM}))
    first = {post.line: post.after for post in stormy.posts if not post.again}
    begin, end = (LIVE.wall(at) / 1000 for at in STORM)
    within = [line for line, after in first.items() if begin <= after < end]

    assert repeats(frozenset({Scenario.RETRY_STORM})) > 3 * repeats(frozenset())
    assert within
    assert all(sum(post.line == line for post in stormy.posts) >= 4 for line in within)


# ---- who goes there ----


def job(wanted: int, rank: int = 2, *, east: float = 0) -> Job:
    return Job(wanted, rank, HERE._replace(east=east), busy=10 * MINUTE)


def test_the_most_urgent_goes_first_once_all_are_busy() -> None:
    jobs = [job(0), job(1), job(2, 0), job(3, 1)]

    order = [index for index, _ in visits(jobs, [Crew(0, 0)], lambda _: 100)]

    assert order == [0, 2, 3, 1]


def test_the_nearest_free_crew_travels() -> None:
    crews = [Crew(0, 0), Crew(5000, 0)]

    [(_, there)] = visits([job(MINUTE, east=5300)], crews, lambda _: 100)

    assert there == MINUTE + MINUTE + 3 * MINUTE  # it gets ready for a minute, then 300 m at 100 m a minute
    assert (crews[0].free, crews[1].free) == (0, there + 10 * MINUTE)


def test_a_crew_is_at_one_place_at_a_time() -> None:
    arrivals = [there for _, there in visits([job(n * SECOND) for n in range(20)], [Crew(0, 0)], lambda _: 100)]

    assert all(later - sooner >= 10 * MINUTE for sooner, later in pairwise(arrivals))


# ---- what must come of it ----


def incident(**changed: object) -> Case:
    """Reported at 0, on site after 10 minutes, finished after 20, approved after 30."""
    plain = Case(
        number=1,
        kind=Kind.INCIDENT,
        category="0506",
        words="非机动车乱停放",
        place=HERE,
        source=Source.INSPECTOR,
        reported=0,
        dispatched=MINUTE,
        arrived=10 * MINUTE,
        rounds=(Round(20 * MINUTE, 30 * MINUTE),),
    )
    return replace(plain, **changed)  # type: ignore[arg-type]  # as the caller names them


def repair(**changed: object) -> Case:
    """Reported at 0, attended after 10 minutes, finished after 20, approved after 30."""
    return incident(kind=Kind.REPAIR, category="0211", words="交通护栏", **changed)


LATE = (Round(1_500_001, 1_800_000),)
TINY = {
    # what happened → (approved, arrival, completion, unfinished and overdue)
    "an incident in time": (incident(), (True, None, "met", False)),
    "at the last moment": (incident(rounds=(Round(1_500_000, 1_800_000),)), (True, None, "met", False)),
    "a millisecond later": (incident(rounds=LATE), (True, None, "breached", False)),
    "approval does not count": (incident(rounds=(Round(20 * MINUTE, 9 * HOUR),)), (True, None, "met", False)),
    "never approved": (incident(rounds=(Round(20 * MINUTE),)), (False, None, "met", False)),
    "never finished": (incident(rounds=()), (False, None, "breached", True)),
    "nobody came": (repair(arrived=None, rounds=()), (False, "breached", "breached", True)),
    "called off in time": (repair(cancelled=5 * MINUTE, arrived=None, rounds=()), (False, None, None, False)),
    "sent back, done again in time": (
        incident(rounds=(Round(12 * MINUTE, returned=15 * MINUTE), Round(20 * MINUTE, 25 * MINUTE))),
        (True, None, "met", False),
    ),
    "reopened next morning": (
        incident(rounds=(Round(12 * MINUTE, 20 * MINUTE, 10 * HOUR), Round(11 * HOUR, 12 * HOUR))),
        (True, None, "breached", False),
    ),
    "a repair attended too late": (repair(arrived=901 * SECOND), (True, "breached", "met", False)),
    "its arrival was never told": (repair(lost=Stage.ARRIVED), (True, "breached", "met", False)),
    "nor that of one finished soon": (
        repair(lost=Stage.ARRIVED, rounds=(Round(12 * MINUTE, 30 * MINUTE),)),
        (True, "met", "met", False),
    ),
    "its finish was never told": (repair(lost=Stage.FINISHED), (True, "met", "breached", False)),
    "it was never reported": (repair(lost=Stage.REPORTED), (True, None, None, False)),
}


@pytest.mark.parametrize(("case", "must"), TINY.values(), ids=TINY)
def test_what_must_come_of_a_case(case: Case, must: tuple[bool, str | None, str | None, bool]) -> None:
    known = of_case(case, CATALOGUE.limit)

    assert (known.approved, known.arrival, known.completion, known.unfinished) == must


def test_the_figures_of_a_tiny_day() -> None:
    """Two incidents and two repairs of an operation, and the cases above."""
    operation = [replace(case, in_operation=True) for case in (incident(), incident(rounds=LATE), repair(), repair())]

    rows = figures(of_case(case, CATALOGUE.limit) for case in (*operation, *(case for case, _ in TINY.values())))

    names = ["campaign_phase", "kind", "reported", "approved", "cancelled", "arrival_met", "arrival_breached"]
    names += ["completion_met", "completion_breached", "overdue_unfinished", "reworked"]
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("formal", "incident", 2, 2, 0, 0, 0, 1, 1, 0, 0),
        ("formal", "repair", 2, 2, 0, 2, 0, 2, 0, 0, 0),
        (None, "incident", 8, 6, 0, 0, 0, 5, 3, 1, 2),
        (None, "repair", 6, 4, 1, 2, 3, 3, 2, 1, 0),
    ]


# ---- how it is told ----


def posted_ms(one: Run, post: Post) -> int:
    """By the wall's clock. History comes when it is over."""
    return one.over_ms if one.clock.speed is None else one.clock.began_ms + round(post.after * 1000)


@pytest.mark.parametrize("clock", [HISTORY, LIVE], ids=["history", "live"])
def test_every_post_is_a_valid_report_of_what_has_happened(clock: Clock) -> None:
    told = run(1, clock)

    for post in told.posts:
        loaded = report.load(orjson.loads(post.line), now_ms=posted_ms(told, post))
        assert loaded.occurred_at_ms <= posted_ms(told, post)
        assert loaded.case_id == post.case_id


def test_in_history_every_time_is_that_of_the_day() -> None:
    told = Telling(HISTORY, CATALOGUE.limit, "run", seed=1)

    times = {
        orjson.loads(post.line)["stage"]: orjson.loads(post.line)["occurred_at"] for post in told.posts([repair()])
    }

    assert times["reported"] == "2026-11-04T00:00:00.000+08:00"
    assert times["approved"] == "2026-11-04T00:30:00.000+08:00"


def test_live_a_case_is_finished_when_that_is_posted_and_its_lengths_up_to_then_are_true() -> None:
    """Reported at 10:00, finished at 10:20: 80 minutes after the beginning, which are 80 seconds on the wall."""
    telling = Telling(LIVE, CATALOGUE.limit, "run", seed=1)
    later = {name: at + 10 * HOUR for name, at in (("reported", 0), ("dispatched", MINUTE), ("arrived", 10 * MINUTE))}
    case = incident(**later, rounds=(Round(10 * HOUR + 20 * MINUTE, 10 * HOUR + 30 * MINUTE),))

    told = [orjson.loads(post.line) for post in telling.posts([case])]
    times = {one["stage"]: parse_time(one["occurred_at"]) - MIDNIGHT for one in told}

    assert times["finished"] == 80 * SECOND
    assert times["finished"] - times["reported"] == 20 * MINUTE
    assert times["approved"] == 90 * SECOND


def fact(post: Post, received_at: int, seq: int) -> Fact:
    loaded = report.load(orjson.loads(post.line), now_ms=received_at)
    campaign = Campaign(**loaded.campaign) if loaded.campaign else None
    return Fact(
        loaded.case_id, loaded.occurred_at_ms, received_at, seq, "platform", loaded.report_id,
        loaded.kind, loaded.category, loaded.stage, loaded.supervision, campaign,
    )  # fmt: skip


def folded(told: Run) -> Mapping[str, Folded]:
    found: dict[str, Folded] = {}
    for seq, post in enumerate(told.posts):
        found[post.case_id] = apply(found.get(post.case_id), fact(post, posted_ms(told, post), seq))
    return found


def known(case: Folded, now_ms: int) -> Expected:
    """What gridgov's own rules come to."""
    Assessment(case, RULES).judge(now_ms)
    return seen(orjson.loads(orjson.dumps(view(case, now_ms, RULES))))


@pytest.mark.parametrize("clock", [HISTORY, LIVE], ids=["history", "live"])
@pytest.mark.parametrize("seed", range(8))
def test_gridgovs_own_rules_come_to_the_same(seed: int, clock: Clock) -> None:
    told = run(seed, clock)

    found = {name: known(case, told.over_ms + DAY) for name, case in folded(told).items()}

    assert differences(told.expected, found) == []
    assert figures(found.values()) == told.figures()


def test_live_no_case_that_is_in_time_is_ever_seen_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.simulate.telling.LATE", 0.0)  # nobody can know what is told hours later
    told = run(1, LIVE, 300)
    looked = 0
    for name, posts in by_case(told.posts).items():
        must = told.expected[name]
        if must.reopenings or "breached" in (must.arrival, must.completion):
            continue
        case: Folded | None = None
        for seq, (post, next_one) in enumerate(pairwise(posts)):
            case = apply(case, fact(post, posted_ms(told, post), seq))
            if (last_moment := posted_ms(told, next_one) - 1) > posted_ms(told, post):
                looked += 1
                assert not any(Assessment(case, RULES).is_overdue(one, last_moment) for one in Standard), name
    assert looked > 500


def test_a_difference_is_named() -> None:
    must = of_case(incident(), CATALOGUE.limit)

    assert differences({"a": must, "b": must}, {"a": must._replace(completion="breached")}) == [
        "a: completion 'breached', not 'met'",
        "b: gridgov does not know it",
    ]
