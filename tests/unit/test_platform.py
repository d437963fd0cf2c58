"""The simulated platform posts over several connections and loses nothing, whatever the server's day is like."""

from __future__ import annotations

import pytest

from service.cli.platform import Platform
from service.cli.replay import ReplayError
from tests.unit.test_replay import Answer, Request, Server, busy, dropped, server, slept

__all__ = ["server", "slept"]  # fixtures


def posted(server: Server, connections: int, cases: int = 20, reports: int = 5) -> Platform:
    """Each report of each case, in turns; a line is the id of its case and its number."""
    with Platform(server.url, key=None, connections=connections, batch=10) as platform:
        for number in range(reports):
            for case in range(cases):
                platform.post(number, f"case-{case}", b"case-%d/%d" % (case, number), again=False)
    return platform


def sent(server: Server) -> list[str]:
    return [line.decode() for request in server.requests for line in request.lines]


def test_nothing_is_lost_on_a_bad_day(server: Server) -> None:
    bad: list[Answer] = [busy(503, Retry_After="3"), busy(429, Retry_After="2"), dropped, busy(503)]
    server.script = bad * 3

    platform = posted(server, connections=3)

    assert server.seen == {b"case-%d/%d" % (case, number) for case in range(20) for number in range(5)}
    assert sum(one.accepted + one.duplicates for one in platform.outcomes) == 100
    assert [one.refused for one in platform.outcomes] == [[], [], []]


def test_it_waits_as_long_as_it_is_told(server: Server, slept: list[float]) -> None:
    server.script = [busy(503, Retry_After="7")]

    posted(server, connections=1)

    assert 7 in slept


def test_the_reports_of_a_case_go_out_in_order(server: Server) -> None:
    posted(server, connections=4)

    for case in range(20):
        own = [line for line in sent(server) if line.startswith(f"case-{case}/")]
        assert own == [f"case-{case}/{number}" for number in range(5)]


def test_every_connection_posts_and_in_batches(server: Server) -> None:
    platform = posted(server, connections=4)

    assert all(one.accepted for one in platform.outcomes)
    assert max(len(request.lines) for request in server.requests) <= 10


def test_a_repeat_comes_in_by_another_door(server: Server) -> None:
    with Platform(server.url, key=None, connections=2, batch=10) as platform:
        platform.post(0, "case-1", b"one", again=False)
        platform.post(0, "case-1", b"one", again=True)

    assert sorted(one.total for one in platform.outcomes) == [1, 1]


def test_who_is_not_let_in_is_told(server: Server) -> None:
    def shut(request: Request) -> None:
        request.answer(401, {"code": "no_key", "title": "no key"})

    server.script = [shut] * 100

    with pytest.raises(ReplayError, match="status 401"):
        posted(server, connections=2)
