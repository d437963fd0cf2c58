"""The edge of the API: reading a request so that nothing slips through, who is asking, and the one error shape."""

import re
import secrets
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

import orjson
from flask import Response, request
from werkzeug.http import parse_options_header

from schemas import wire
from schemas.reasons import Lang, Reason, message
from schemas.report import Problem
from service.config import is_loopback
from service.intake.keys import LOCAL, Keys, Principal, Role
from service.intake.lean import Answer

REPORT_BYTES = 256 * 1024
BATCH_BYTES = 2 * 1024 * 1024
BATCH_REPORTS = 1000
DRAIN_BYTES = 16 * 1024 * 1024  # of a refused body, so that who sends all before reading gets the answer too
RETRY_SECONDS = (1, 3)  # jittered, so that refused senders do not come back all at once
NDJSON = "application/x-ndjson"
PROBLEM_JSON = "application/problem+json"
ASKED = "gridgov.asked"
Environ = dict[str, Any]  # of WSGI
_FORWARDED = {
    *("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST"),
    *("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_SERVER"),
}
_HOST = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([^:]*)(?::[0-9]+)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Refusal(Exception):
    """An answer that is not the one hoped for; becomes a problem document."""

    def __init__(self, reason: Reason, problems: Sequence[Problem] = (), **params: object) -> None:
        super().__init__(reason)
        self.reason, self.problems, self.params = reason, problems, params


class Gate:
    """Lets in who has a key, or, while no key is configured, this machine."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def caller(self, role: Role | None = None) -> Principal:
        """Who is asking; with `role`, only if they have it."""
        environ = request.environ
        given = environ.get("HTTP_AUTHORIZATION")
        principal = self._keys.who(given)
        if principal is None and given is None and not self._keys.configured and local(environ):
            principal = LOCAL
        if principal is None:
            raise Refusal(Reason.UNAUTHENTICATED)
        if role is not None and role not in principal.roles:
            raise Refusal(Reason.FORBIDDEN)
        return principal


# ---- reading ----


def content_type(*allowed: str) -> str:
    """The request's media type if it is one of `allowed`, in UTF-8 and not encoded further."""
    environ = request.environ
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise Refusal(Reason.UNSUPPORTED_ENCODING)
    found, charset = _media_type(environ.get("CONTENT_TYPE", ""))
    if found not in allowed or charset not in ("utf-8", "utf8"):
        raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, choices=allowed)
    return found


@lru_cache(64)  # a sender says the same each time
def _media_type(given: str) -> tuple[str, str]:
    kind, parameters = parse_options_header(given)
    return kind.lower(), parameters.get("charset", "utf-8").lower()


def body(limit: int) -> bytes:
    """The whole body, exactly as long as announced, at most `limit` bytes.

    Not `request.get_data()`: that takes a truncated body for a whole one. Not chunked either: the server gives us a
    chunked body that broke off as if it were whole, so its length must be announced (a buffering proxy sees to that).
    """
    environ = request.environ
    announced = environ.get("HTTP_CONTENT_LENGTH") or environ.get("CONTENT_LENGTH") or ""
    if "HTTP_TRANSFER_ENCODING" in environ or not (announced.isascii() and announced.isdigit()):
        raise Refusal(Reason.BAD_LENGTH)
    if int(announced) > limit:
        raise Refusal(Reason.BODY_TOO_LARGE, limit=limit)
    data: bytes = environ["wsgi.input"].read(limit + 1)
    if len(data) != int(announced):
        raise Refusal(Reason.TRUNCATED_BODY)
    return data


def drain() -> None:
    """Read what is left of a body that was refused unread: the server cuts a connection that still sends."""
    left = DRAIN_BYTES if (request.content_length or 0) <= DRAIN_BYTES else 0
    while left > 0 and (gone := len(request.environ["wsgi.input"].read(65536))):
        left -= gone


def array() -> list[object]:
    """The items of a JSON array; one that cannot be read is a problem of the whole request."""
    items = wire.parse(body(BATCH_BYTES))
    if not isinstance(items, list):
        raise Refusal(Reason.NOT_AN_ARRAY)
    return items


def lines() -> list[object]:
    """The items of an NDJSON body; a line that cannot be read stands in its place as `Unreadable`."""
    raw = wire.split_ndjson(body(BATCH_BYTES))
    return [_line(line) for line in raw[: BATCH_REPORTS + 1]]


def _line(line: bytes) -> object:
    try:
        return wire.parse(line)
    except wire.Unreadable as unreadable:
        return unreadable


def local(environ: Environ) -> bool:
    """Whether the request comes straight from this machine, for all that can be seen of it.

    A proxy on this machine makes everybody's requests come from here: so none that names a proxy counts as ours, nor
    one to a host of another name. One that hides itself and the name cannot be told apart; it needs keys.
    """
    host = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
    return (
        environ.keys().isdisjoint(_FORWARDED)
        and is_loopback(environ.get("REMOTE_ADDR", ""))
        and host is not None
        and is_loopback(host[1] or host[2])
    )


# Ids of requests that bring none: this process, and a number. A random one each would cost a system call, at which
# Python's lock goes to another thread.
_PROCESS, _NUMBERS = secrets.token_hex(4), count()


class Asked:
    """What is needed of a request from its beginning to its end, read once."""

    __slots__ = ("request_id", "started", "trace_id", "traceparent")

    def __init__(self, environ: Environ) -> None:
        self.started = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"{_PROCESS}{next(_NUMBERS):08x}"
        trace = environ.get("HTTP_TRACEPARENT", "")  # the W3C trace context, if it can be trusted in a header
        self.traceparent = trace if _TRACEPARENT.fullmatch(trace) else None
        self.trace_id = trace.split("-")[1] if self.traceparent else None


def asked() -> Asked:
    """Of the request that is being answered."""
    found: Asked = request.environ[ASKED]
    return found


def language() -> Lang:
    """Chinese unless the client would rather have English."""
    for tag, quality in request.accept_languages:  # in order of preference; not best_match: it takes en before zh-CN
        primary = tag.lower().partition("-")[0]
        if quality > 0 and primary in ("zh", "en"):
            return "en" if primary == "en" else "zh"
    return "zh"


# ---- answering ----


def reply(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Answer(orjson.dumps(value), status, "application/json", headers)


def problem(reason: Reason, problems: Iterable[Problem] = (), **params: object) -> Response:
    """RFC 9457, in the client's language."""
    lang = language()
    document = {
        "type": f"urn:gridgov:problem:{reason}",
        "title": message(reason, lang, **params),
        "status": reason.status,
        "code": reason,
        "request_id": asked().request_id,
        "retryable": reason.retryable,
        "errors": errors(problems, lang),
    }
    headers = {"Content-Language": lang, "Vary": "Accept-Language"}
    if reason.status in (429, 503):
        low, high = RETRY_SECONDS
        headers["Retry-After"] = str(low + secrets.randbelow(high - low + 1))
    if reason.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Answer(orjson.dumps(document), reason.status or 500, PROBLEM_JSON, headers)


def errors(problems: Iterable[Problem], lang: Lang) -> list[dict[str, str]]:
    """The `errors` member of a problem document or a batch result."""
    return [
        {"pointer": one.pointer, "code": one.reason, "message": message(one.reason, lang, **one.params)}
        for one in problems
    ]
