"""Through the nginx that is shipped: whose address counts, what a slow client costs others, what is one request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
import urllib3

from service.cli.serve import CONNECTIONS
from tests.front import Front, front, room_for, slow_clients
from tests.gridgov import NO_KAFKA, Gridgov, alone, report, until
from tests.system.refusals import Answer, read_answer
from tests.system.smuggling import CASES, HONEST, all_tried, heard, spelt, statuses

HERE, ELSEWHERE = "127.0.3.1", "127.0.3.2"
SLOW = CONNECTIONS + 76  # more than gridgov itself has connections
Guarded = tuple[Gridgov, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The web process alone, and a sender's key."""
    room_for(2 * SLOW)
    own = Gridgov(tmp_path_factory.mktemp("front") / "var", NO_KAFKA, {"GRIDGOV_TRUSTED_PROXIES": "127.0.0.1/32"})
    key = own.run("keys", "add", "sender", "--role", "sender", check=True).stdout.strip()
    with alone(own):
        yield own, key


@pytest.fixture(scope="module")
def before(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """nginx before it."""
    with front(tmp_path_factory.mktemp("nginx") / "front", guarded[0].port) as made:
        yield made


def posted(made: Front, name: str, key: str, *, source: str = HERE, more: str = "") -> Answer:
    """One report on a connection of its own."""
    body = orjson.dumps(report(name))
    head = f"POST /v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{more}"
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    with made.connect(source) as connection:
        connection.sendall(f"{head}{authorization}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return read_answer(connection)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


# ---- whose address ----


def test_a_network_of_a_key_is_that_of_the_client_whatever_he_says(guarded: Guarded, before: Front) -> None:
    own, _ = guarded
    key = own.run("keys", "add", "placed", "--role", "sender", "--network", f"{HERE}/32", check=True).stdout.strip()
    until(lambda: posted(before, "here", key).status == 202, "the new key is known", every=0.2)
    assert code(posted(before, "there", key, source=ELSEWHERE)) == (403, "wrong_network")
    for forged in (f"X-Forwarded-For: {HERE}", f"X-Real-IP: {HERE}", f"Forwarded: for={HERE}"):
        assert code(posted(before, "forged", key, source=ELSEWHERE, more=f"{forged}\r\n")) == (403, "wrong_network")
    assert posted(before, "through", key, more="X-Forwarded-For: 10.9.8.7, junk\r\n").status == 202


def test_behind_nginx_nobody_is_this_machine(tmp_path: Path) -> None:
    """Without a key gridgov lets in whom this machine sends; what comes through a proxy on it never counts as that."""
    with alone(Gridgov(tmp_path / "var", NO_KAFKA)) as open_to_us, front(tmp_path / "front", open_to_us.port) as made:
        assert open_to_us.post(report("from-us"))[0] == 202
        assert code(posted(made, "through", "")) == (401, "unauthenticated")


def test_only_who_shows_the_platforms_certificate_gets_through(guarded: Guarded, tmp_path: Path) -> None:
    own, key = guarded
    with front(tmp_path / "front", own.port, mtls=True) as made:
        assert code(posted(made, "nobody", key)) == (403, "certificate_required")
        certificate, private = tmp_path / "platform.pem", tmp_path / "platform.key"
        made.authority.issue("platform", certificate, private)
        shown = made.context
        shown.load_cert_chain(certificate, private)
        with urllib3.PoolManager(retries=False, ssl_context=shown) as platform:
            headers = {"Authorization": f"Bearer {key}"}
            assert platform.request("POST", f"{made.url}/v1/reports", json=report("m"), headers=headers).status == 202
            assert platform.request("POST", f"{made.url}/v1/reports", json=report("m")).status == 401


# ---- what nginx answers itself ----


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000), 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"a" * 9000), 431, "header_too_large"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", 413, "body_too_large"),
        (b"GET /.front/problem HTTP/1.1\r\nHost: a\r\n\r\n", 404, "bad_request"),
    ],
    ids=["no host", "no request", "long path", "long header", "large body", "what is internal"],
)
def test_every_answer_of_nginx_is_a_problem_document(before: Front, request_: bytes, status: int, told: str) -> None:
    with before.connect() as connection:
        connection.sendall(request_)
        answer = read_answer(connection)
    assert (answer.status, answer.json["status"], answer.json["code"]) == (status, status, told)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Server"] == "nginx"  # no version of it


# ---- slow clients ----


def test_slow_clients_cost_the_others_nothing_behind_nginx(guarded: Guarded, before: Front) -> None:
    own, key = guarded
    with slow_clients(SLOW, key, own.port, before):
        assert [posted(before, f"beside-{number}", key).status for number in range(20)] == [202] * 20


def test_control_without_nginx_they_shut_everybody_out(guarded: Guarded) -> None:
    own, key = guarded
    with slow_clients(SLOW, key, own.port), socket.create_connection(("127.0.0.1", own.port), timeout=1) as late:
        late.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(TimeoutError):
            late.recv(1)


# ---- one request, or two ----


def test_never_two_requests_from_one(guarded: Guarded, before: Front) -> None:
    found = all_tried(CASES, *guarded, before)
    assert found == {name: (case.behind, case.direct, False) for name, case in CASES.items()}


def test_control_two_honest_requests_are_two(guarded: Guarded, before: Front) -> None:
    own, key = guarded
    with closing(before.connect()) as connection:
        assert statuses(connection, spelt(HONEST, key, "second"), HONEST.behind) == HONEST.behind
    assert heard(own, key, "second")
