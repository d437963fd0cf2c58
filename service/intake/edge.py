"""The edge of the API: reading a request so that nothing slips through, and the one error shape."""

import math
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

from schemas.reasons import Lang, Reason, message
from schemas.report import Problem
from service.config import is_loopback
from service.intake.lean import Answer

RETRY_SECONDS = (1, 3)  # jittered, so that refused senders do not come back all at once
NDJSON = "application/x-ndjson"
PROBLEM_JSON = "application/problem+json"
ASKED = "gridgov.asked"
LET_IN = "gridgov.let_in"  # in the environ: the gate knows who is asking
Environ = dict[str, Any]  # of WSGI
FORWARDED = {
    *("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST"),
    *("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_SERVER"),
}
_GZIP = ("gzip", "x-gzip")  # one and the same, as RFC 9110 has it
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?|([A-Za-z0-9._~%!$&'()*+;=-]+)(?::[0-9]*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Refusal(Exception):
    """An answer that is not the one hoped for; becomes a problem document."""

    def __init__(self, reason: Reason, problems: Sequence[Problem] = (), **params: object) -> None:
        super().__init__(reason)
        self.reason, self.problems, self.params = reason, problems, params


# ---- reading ----


def content_type(environ: Environ, *allowed: str) -> str:
    """The request's media type if it is one of `allowed`, in UTF-8 and encoded no further than with gzip."""
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() not in ("identity", *_GZIP):
        raise Refusal(Reason.UNSUPPORTED_ENCODING)
    found, charset = _media_type(environ.get("CONTENT_TYPE", ""))
    if found not in allowed or charset not in ("utf-8", "utf8"):
        raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, choices=allowed)
    return found


def compressed(environ: Environ) -> bool:
    """Whether the body comes as gzip."""
    return environ.get("HTTP_CONTENT_ENCODING", "").lower() in _GZIP


@lru_cache(64)  # a sender says the same each time
def _media_type(given: str) -> tuple[str, str]:
    kind, parameters = parse_options_header(given)
    return kind.lower(), parameters.get("charset", "utf-8").lower()


def check_host(environ: Environ) -> None:
    """Refuse what does not say, once, whom it is for: what stands before us may read it as another's request."""
    if environ.get("SERVER_PROTOCOL") != "HTTP/1" and not _HOST.fullmatch(environ.get("HTTP_HOST", "")):
        raise Refusal(Reason.BAD_HOST)


def local(environ: Environ) -> bool:
    """Whether the request comes straight from this machine, for all that can be seen of it.

    A proxy on this machine makes everybody's requests come from here: so none that names a proxy counts as ours, nor
    one to a host of another name. One that hides itself and the name cannot be told apart; it needs keys.
    """
    host = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
    return (
        environ.keys().isdisjoint(FORWARDED)
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
        known = params.get("wait")  # seconds, where it is known how many; None: it is not
        least = low if known is None else max(low, math.ceil(float(str(known))))
        headers["Retry-After"] = str(least + secrets.randbelow(high - low + 1))
    if reason is Reason.UNSUPPORTED_ENCODING:
        headers["Accept-Encoding"] = "gzip"  # RFC 9110, 15.5.16: what would be taken
    if reason.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Answer(orjson.dumps(document), reason.status or 500, PROBLEM_JSON, headers)


def errors(problems: Iterable[Problem], lang: Lang) -> list[dict[str, str]]:
    """The `errors` member of a problem document or a batch result."""
    return [
        {"pointer": one.pointer, "code": one.reason, "message": message(one.reason, lang, **one.params)}
        for one in problems
    ]
