"""What several web processes tell as one: sums that are exact, the worst readiness, and nothing while one is silent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from service import ops
from service.ops import Health, Readiness, Untold
from service.peers import SILENT, Alone, Peer, Team, Together, figures, summed

disable_created_metrics()  # type: ignore[no-untyped-call]  # as service.metrics does

READY, DEGRADED = Readiness(Health.READY), Readiness(Health.DEGRADED, ("relay_silent",))


class Counts:
    """A process's metrics of each kind."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reports = Counter("reports_total", "Posted.", ("kind", "result"), registry=self.registry)
        self.seconds = Histogram("seconds", "Of requests.", ("route",), buckets=(1, 2), registry=self.registry)
        self.under_way = Gauge("under_way", "Now.", registry=self.registry)

    def post(self, kind: str, result: str, seconds: int) -> None:
        self.reports.labels(kind, result).inc()
        self.seconds.labels(kind).observe(seconds)
        self.under_way.inc(seconds)


class Told:
    """A registry that tells what some have told, as it comes over a wire."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        self.collected = list(summed([orjson.loads(orjson.dumps(figures(one))) for one in registries]))
        self.registry = CollectorRegistry()
        self.registry.register(self)  # type: ignore[arg-type]  # a collector by what it does

    def collect(self) -> Iterator[object]:
        return iter(self.collected)


posted = st.tuples(
    st.sampled_from(["repair", "incident"]), st.sampled_from(["accepted", "duplicate"]), st.integers(0, 3)
)


@given(st.lists(st.tuples(st.integers(0, 2), posted)))
def test_the_sum_is_what_one_would_have_counted(all_posts: list[tuple[int, tuple[str, str, int]]]) -> None:
    one, several = Counts(), [Counts(), Counts(), Counts()]
    for process, post in all_posts:
        one.post(*post)
        several[process].post(*post)

    told = generate_latest(Told(*(each.registry for each in several)).registry)
    assert sorted(told.splitlines()) == sorted(generate_latest(one.registry).splitlines())


def test_what_is_no_number_of_things_is_not_added_up() -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for number, registry in enumerate(registries, 1):
        for name in ("gridgov_keys_stale", "process_start_time_seconds", "process_max_fds", "process_open_fds"):
            Gauge(name, "x", registry=registry).set(number)
    told = Told(*registries).registry

    values = [told.get_sample_value(name) for name in ("gridgov_keys_stale", "process_max_fds", "process_open_fds")]
    assert values == [2, 1, 3]


def test_an_exemplar_is_shown_whoever_has_it() -> None:
    first, second = Counts(), Counts()
    first.seconds.labels("repair").observe(1)
    second.seconds.labels("repair").observe(1, {"trace_id": "abc"})

    told: bytes = openmetrics(Told(first.registry, second.registry).registry)  # type: ignore[no-untyped-call]
    assert b'le="1.0",route="repair"} 2.0 # {trace_id="abc"} 1.0' in told


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def joined(stack: ExitStack, team: Team, ready: Callable[[], Readiness] = lambda: READY) -> tuple[Counts, Together]:
    counts = Counts()
    return counts, stack.enter_context(closing(Together(team, counts.registry, Alone(lambda: True, ready))))


def test_whoever_is_asked_answers_for_all(stack: ExitStack) -> None:
    team = Team(2)
    (one, first), (other, second) = joined(stack, team), joined(stack, team, lambda: DEGRADED)
    one.post("repair", "accepted", 1)
    other.post("repair", "accepted", 1)

    assert (first.first, second.first) == (True, False)
    for each in (first, second):
        assert (each.alive(), each.ready()) == (True, DEGRADED)
        assert {s.value for family in each.collect() for s in family.samples if s.name == "reports_total"} == {2}


def test_while_one_is_silent_there_are_no_sums(stack: ExitStack) -> None:
    team = Team(2)
    counts, first = joined(stack, team)
    told = CollectorRegistry()
    told.register(first)
    client = ops.app(ops.blueprint(told, alive=first.alive, ready=first.ready)).test_client()

    assert client.get("/metrics").status_code == 503
    assert client.get("/readyz").json == {"status": "unready", "reasons": [SILENT]}
    assert client.get("/livez").status_code == 503

    joined(stack, team)
    assert [client.get(path).status_code for path in ops.ROUTES] == [200, 200, 200]
    assert counts.reports  # kept alive


def broken() -> Readiness:
    raise RuntimeError("a bug")


def test_who_cannot_tell_is_silent_and_answers_the_next_question(stack: ExitStack) -> None:
    team = Team(2)
    (_, first), _ = joined(stack, team), joined(stack, team, broken)

    assert first.ready() == Readiness(Health.UNREADY, (SILENT,))
    assert first.alive()


def test_a_place_is_free_again_when_its_process_has_left() -> None:
    team = Team(1)
    with closing(Peer(team, {})), pytest.raises(OSError, match="more than 1"):
        Peer(team, {})
    Peer(team, {}).close()


def test_another_user_is_neither_asked_nor_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    team = Team(2)
    with closing(Peer(team, {"x": lambda: 1})) as first, closing(Peer(team, {"x": lambda: 2})):
        assert first.ask("x") == [1, 2]
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        with pytest.raises(Untold):
            first.ask("x")
