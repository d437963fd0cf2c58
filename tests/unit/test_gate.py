"""The gate as requests meet it: from where, how often, and what an answer tells of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.intake import scopes
from service.intake.edge import ASKED, Asked, Refusal, problem
from service.intake.gate import CLIENT, REFUSALS, Gate
from service.intake.keys import Keys, Role
from service.intake.scopes import networks

PROXY, SENDER, STRANGER = "10.0.0.9", "198.51.100.7", "203.0.113.66"
Ask = Callable[..., TestResponse]


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.json")


@pytest.fixture
def pauses() -> list[float]:
    """How long answers were held back."""
    return []


@pytest.fixture
def gate(keys: Keys, clock: Clock, pauses: list[float]) -> Gate:
    trusted, proxies = networks(["127.0.0.0/8", "192.0.2.0/24"]), networks([f"{PROXY}/32", "10.1.0.0/16"])
    return Gate(keys, rate=100, share=2, failures=3, proxies=proxies, trusted=trusted, clock=clock, pause=pauses.append)


@pytest.fixture
def client(gate: Gate) -> FlaskClient:
    """`/ask` for anybody with a key, POST for senders (`reports` of them), and a probe for those who watch."""
    app, watched = Flask(__name__), Blueprint("ops", __name__)

    def closed(response: Response) -> Response:
        gate.close(request.environ, response)
        return response

    app.before_request(_begin)
    app.after_request(closed)
    app.register_error_handler(Refusal, lambda refusal: problem(refusal.reason, **refusal.params))

    @app.get("/ask")
    def ask() -> str:
        return gate.caller(request.environ).name

    @app.post("/ask/<int:reports>")
    def post(reports: int) -> str:
        environ = request.environ
        gate.charge(environ, gate.caller(environ, Role.SENDER), reports)
        return ""

    @watched.get("/livez")
    def livez() -> str:
        return "live"

    app.register_blueprint(watched)
    gate.guard(app, "ops")
    return app.test_client()


def _begin() -> None:
    request.environ[ASKED] = Asked(request.environ)


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    def asked(path: str = "/ask", key: str | None = None, *, via: str = "", at: str = SENDER) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {"X-Forwarded-For": via} if via else {}
        method = "GET" if path in ("/ask", "/livez") else "POST"
        return client.open(path, method=method, headers=headers, environ_overrides={"REMOTE_ADDR": at})

    return asked


def code(answer: TestResponse) -> Any:
    return (answer.json or {}).get("code")


def scoped(keys: Keys, **said: Any) -> str:
    return keys.add("platform", Role.SENDER, scopes.parse(said))


@pytest.mark.parametrize(
    ("at", "via", "admitted"),
    [
        (SENDER, "", True),
        (STRANGER, "", False),
        (STRANGER, SENDER, False),  # anybody may say that he passes something on
        (PROXY, SENDER, True),
        (PROXY, f"{SENDER}, {STRANGER}", False),  # the sender said the first, the proxy the last
        (PROXY, f"{STRANGER}, {SENDER}", True),
        (PROXY, f"{SENDER},10.1.2.3", True),  # two proxies of ours
        (PROXY, "", False),
        (PROXY, "nonsense", False),
    ],
)
def test_a_key_for_certain_networks(keys: Keys, ask: Ask, at: str, via: str, admitted: bool) -> None:
    key = scoped(keys, networks=[f"{SENDER}/32"])
    answer = ask(key=key, at=at, via=via)
    assert (answer.status_code, code(answer)) == ((200, None) if admitted else (403, "wrong_network"))


def test_more_than_the_rate_waits_as_long_as_it_is_told(keys: Keys, ask: Ask, clock: Clock) -> None:
    key = scoped(keys, rate=20)
    answers = [ask(key=key) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[0].headers["RateLimit"] == '"reports";r=9;t=1'
    assert code(answers[-1]) == "rate_limited"
    assert answers[-1].headers["RateLimit"] == '"reports";r=0;t=1'

    clock.now += int(answers[-1].headers["Retry-After"])

    assert ask(key=key).status_code == 200


def test_a_batch_counts_as_its_reports_and_what_it_owes_is_waited_for(keys: Keys, ask: Ask, clock: Clock) -> None:
    key = scoped(keys)
    assert [ask("/ask/1000", key).status_code for _ in range(2)] == [200, 429]  # at the usual 100 a second
    assert ask("/ask/1", key).headers["Retry-After"] in {"10", "11", "12"}
    clock.now += 9.7
    assert ask("/ask/1", key).status_code == 429
    clock.now += 0.1

    assert ask("/ask/1", key).status_code == 200


def test_who_posts_too_often_has_refusals_one_after_the_other_and_who_reads_keeps_no_thread(
    keys: Keys, ask: Ask, clock: Clock, pauses: list[float]
) -> None:
    key = scoped(keys)
    assert ask("/ask/10000", key).status_code == 200
    for _ in range(REFUSALS.burst + 10):  # all at the same moment
        assert ask("/ask/1", key).status_code == 429
    assert ask(key=key).status_code == 429
    assert pauses == pytest.approx([n / REFUSALS.rate for n in range(1, REFUSALS.burst + 1)])

    clock.now += 1
    ask("/ask/1", key)

    assert pauses[REFUSALS.burst :] == pytest.approx([(REFUSALS.burst + 1) / REFUSALS.rate - 1])


@pytest.mark.parametrize(("processes", "at_once"), [(1, 25), (2, 12), (1000, 10)])
def test_of_several_processes_each_lets_in_its_part(keys: Keys, clock: Clock, processes: int, at_once: int) -> None:
    gate = Gate(keys, rate=100, processes=processes, clock=clock)
    asked = {"HTTP_AUTHORIZATION": f"Bearer {scoped(keys)}", "REMOTE_ADDR": SENDER, "REQUEST_METHOD": "GET"}

    for _ in range(at_once):
        gate.caller(dict(asked))
    with pytest.raises(Refusal):
        gate.caller(dict(asked))


def test_two_keys_of_one_sender_have_one_bucket(keys: Keys, ask: Ask) -> None:
    first, second = scoped(keys), scoped(keys)
    assert ask("/ask/1000", first).status_code == 200

    assert ask("/ask/1", second).status_code == 429


def test_a_sender_has_so_many_requests_under_way_and_others_have_theirs(keys: Keys, ask: Ask, gate: Gate) -> None:
    one, other = keys.add("one", Role.SENDER), keys.add("other", Role.SENDER)
    assert [gate._shares.enter("one", 9) for _ in range(2)] == [True, True]  # two that are slow
    answer = ask("/ask/1", one)

    assert (answer.status_code, code(answer)) == (429, "rate_limited")
    assert ask(key=one).status_code == 200  # a question brings no body
    assert [ask("/ask/1", other).status_code for _ in range(5)] == [200] * 5
    gate._shares.leave("one", 9)
    assert [ask("/ask/1", one).status_code for _ in range(5)] == [200] * 5


def test_who_is_refused_leaves_no_request_under_way(keys: Keys, ask: Ask, gate: Gate) -> None:
    reader, key = keys.add("reader", Role.READER), keys.add("one", Role.SENDER)
    for _ in range(5):
        assert ask("/ask/1", reader).status_code == 403
        assert ask("/ask/1", key).status_code == 200
    assert set(gate._shares._taken.values()) == {(0, 0)}


def test_an_address_that_is_wrong_too_often_hears_no_more_and_locks_nobody_out(
    keys: Keys, ask: Ask, clock: Clock
) -> None:
    key = keys.add("platform", Role.SENDER)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert [code(ask(key=wrong)) for _ in range(5)] == ["unauthenticated"] * 3 + ["rate_limited"] * 2
    assert ask().status_code == 429  # nor with none
    assert ask(key=key).status_code == 200  # the same address, the right key
    assert ask(key=wrong, at=STRANGER).status_code == 401
    assert ask(key=wrong, at=PROXY, via=f"{SENDER}, {STRANGER}").status_code == 401  # counted where it comes from
    assert ask(key=wrong, at=STRANGER).status_code == 401
    assert ask(key=wrong, at=STRANGER).status_code == 429
    waits = int(ask(key=wrong).headers["Retry-After"])
    assert 20 <= waits <= 22

    clock.now += 20

    assert [ask(key=wrong).status_code for _ in range(2)] == [401, 429]


@pytest.mark.parametrize(
    ("at", "via", "status"),
    [
        ("127.0.0.1", "", 200),
        ("192.0.2.5", "", 200),
        ("127.0.0.1", "192.0.2.5", 401),  # a proxy on this machine that nobody has told us of
        (PROXY, "192.0.2.5", 200),
        (PROXY, f"192.0.2.5, {STRANGER}", 401),
        (STRANGER, "", 401),
    ],
)
def test_probes_are_for_readers_and_trusted_networks(keys: Keys, ask: Ask, at: str, via: str, status: int) -> None:
    reader, sender = keys.add("reader", Role.READER), keys.add("sender", Role.SENDER)

    assert ask("/livez", at=at, via=via).status_code == status
    assert ask("/livez", reader, at=at, via=via).status_code == 200
    assert ask("/livez", sender, at=at, via=via).status_code == (200 if status == 200 else 403)


def test_before_there_is_a_key_this_machine_asks_as_often_as_it_likes(keys: Keys, ask: Ask) -> None:
    answers = [ask("/ask/1000", at="127.0.0.1") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("RateLimit" in answer.headers for answer in answers)
    assert ask(at=STRANGER).status_code == 401


def test_the_audit_log_is_told_where_a_request_comes_from_by_a_proxy_of_ours(keys: Keys, gate: Gate) -> None:
    keys.add("platform", Role.SENDER)
    for peer, origin in ((PROXY, STRANGER), (SENDER, None)):
        environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": f"{SENDER}, {STRANGER}"}
        with pytest.raises(Refusal):
            gate.caller(environ)
        assert environ[CLIENT] == origin
