"""Rows about who is asking: signatures tampered with and replayed, and who may do what on every route there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from flask import Blueprint

from tests.edge.rows import ROWS, UNLIMITED, guarded, judged
from tests.faults.rows import Row, Seen, Setting
from tests.gridgov import Gridgov, report
from tests.system.refusals import ask
from tests.system.test_signing import made, signed
from tests.unit.test_authorisation import MATRIX, WHO, otherwise

REPORTS, BATCH, CASES = "/v1/reports", "/v1/reports/batch", "/v1/cases?kind=repair&phase=approved"
Headers = Mapping[str, str]


class Sent(NamedTuple):
    """A request as it arrives; `what` was done to it on the way."""

    what: str
    method: str
    path: str
    body: bytes
    headers: Headers


def tampered(setting: Setting, **odd: dict[str, Any]) -> Seen:
    """Every part of a signed request changed by somebody on the way: each must be refused, and leave nothing."""
    with guarded(setting, odd) as (own, bearer):
        key, other = _signs(own, "signs"), _signs(own, "other")
        body = orjson.dumps(report("signed"))
        headers = signed(key, body)
        changed = [*_heads(headers, signed(other, body)), *_digits(headers)]
        sent = [Sent(what, "POST", REPORTS, body, told) for what, told in changed]
        sent += _elsewhere(body, headers, signed(key, b"", method="GET", path=CASES))
        sent += _bodies(body, headers)
        told = {one.what: ask(own, one.method, one.path, one.body, one.headers) for one in sent}
        wrong = {f"{what}: {answer.status}" for what, answer in told.items() if answer.status != 401}
        let_in = {"Authorization": f"Bearer {bearer}"}
        if ask(own, "POST", REPORTS, body, headers).status != 202 or own.status()["pending"] != 1:
            wrong.add("what was not touched is not the only one taken")
        if ask(own, "POST", REPORTS, orjson.dumps(report("bearer")), let_in).status != 202:
            wrong.add("another's good key is refused now")
    return judged(wrong, f"{len(sent)} changes, each 401")


def _signs(own: Gridgov, name: str) -> str:
    return made(own, name, "sha256", "--rate", UNLIMITED)  # a changed body counts as one of his: he has signed the head


def _heads(headers: Headers, other: Headers) -> Iterator[tuple[str, Headers]]:
    """Each header left out, empty, somebody else's, twice as long."""
    for name, value in headers.items():
        yield f"{name} left out", {one: told for one, told in headers.items() if one != name}
        for what, wrong in (("empty", ""), ("doubled", value * 2), ("cut", value[:-1]), ("a dash", "-")):
            yield f"{name} {what}", {**headers, name: wrong}
    for name in ("X-App-Key", "X-Signature"):
        yield f"{name} of another", {**headers, name: other[name]}
    stamp = int(headers["X-Timestamp"])
    for seconds in (-400, -1, 1, 400):
        yield f"{seconds} s", {**headers, "X-Timestamp": str(stamp + seconds)}
    yield "in milliseconds", {**headers, "X-Timestamp": f"{stamp}000"}


def _digits(headers: Headers) -> Iterator[tuple[str, Headers]]:
    """Each digit of the signature, of the digest, of the time and of the key's id changed."""
    for name in ("X-Signature", "X-Content-Digest", "X-Timestamp", "X-App-Key"):
        value = headers[name]
        for at in range(3 if name == "X-App-Key" else 0, len(value)):
            digit = "1" if value[at] != "1" else "2"
            yield f"{name} digit {at}", {**headers, name: value[:at] + digit + value[at + 1 :]}


def _elsewhere(body: bytes, headers: Headers, reading: Headers) -> Iterator[Sent]:
    """Another method, path or query."""
    yield Sent("as a batch", "POST", BATCH, body, headers)
    yield Sent("with a query", "POST", f"{REPORTS}?a=1", body, headers)
    yield Sent("as a GET", "GET", "/v1/reports/r-signed", b"", headers)
    for path in ("/v1/cases", "/v1/cases?kind=repair", f"{CASES}&limit=1", CASES.replace("approved", "suspended")):
        yield Sent(f"for {path}", "GET", path, b"", reading)
    yield Sent("for another path", "GET", "/v1/catalogue", b"", reading)


def _bodies(body: bytes, headers: Headers) -> Iterator[Sent]:
    """Each byte of the body another, and the whole of it."""
    for at in range(len(body)):
        yield Sent(f"byte {at}", "POST", REPORTS, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], headers)
    for what, other in (
        ("nothing", b""),
        ("a space more", body + b" "),
        ("another report", body.replace(b"r-", b"x-")),
    ):
        yield Sent(what, "POST", REPORTS, other, headers)


# ---- replayed ----

SENT, AGAIN = 20, 3


def replayed(setting: Setting, **odd: dict[str, Any]) -> Seen:
    """Signed requests come again and again, also after the service was killed: each stays one report."""
    with guarded(setting, odd) as (own, _):
        key = _signs(own, "replays")
        bodies = [orjson.dumps(report(f"replayed-{number}")) for number in range(SENT)]
        sent = [(body, signed(key, body)) for body in bodies]
        first = _duplicates(own, sent)
        again = [_duplicates(own, sent) for _ in range(AGAIN)]
        for process in own.processes:
            process.kill()
        own.stop()
        own.start("web")
        own.ready()
        again += [_duplicates(own, sent) for _ in range(AGAIN)]
        kept = own.status()["pending"]
    known = sum(map(sum, again))
    figures = f"{SENT} reports, {known} of {2 * AGAIN * SENT} replays known, {kept} in the journal"
    return Seen(first == [False] * SENT and known == 2 * AGAIN * SENT and kept == SENT, figures)


def _duplicates(own: Gridgov, sent: Sequence[tuple[bytes, Headers]]) -> list[bool]:
    answers = [ask(own, "POST", REPORTS, body, headers) for body, headers in sent]
    return [answer.status == 202 and answer.json["duplicate"] for answer in answers]


# ---- who may do what ----


def matrix(setting: Setting, *more: Blueprint) -> Seen:
    """Every route of the URL map, for everybody there is by role and scope."""
    return judged(otherwise(setting.directory, *more), f"{len(MATRIX)} routes × {len(WHO)} callers")


def _new(setting: Setting) -> Seen:
    new: Any = Blueprint("new", __name__)
    new.add_url_rule("/v1/new", view_func=lambda: "new")
    return matrix(setting, new)


ROWS += [
    Row(
        "a signed request changed on the way",
        "401 for a change of any part, byte and digit",
        tampered,
        partial(tampered, believes_signatures={}),
        "does not compare what was signed",
        in_short=True,
    ),
    Row(
        "a signed request replayed, before and after SIGKILL",
        "each is known, each is in the journal once",
        replayed,
        partial(replayed, forgetful={}),
        "the journal does not recognise a repeat",
        in_short=True,
    ),
    Row(
        "who may do what",
        "as the matrix says on every route of the URL map",
        matrix,
        _new,
        "a new route without a line",
        in_short=True,
    ),
]
