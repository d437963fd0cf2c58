"""The HTTP API: routes, the one way to read a body, and the one error shape. Contract: `/openapi.json`."""

import logging
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from schemas import wire
from schemas.catalogue import Catalogue
from schemas.reasons import Lang, Reason, message
from schemas.report import Problem
from schemas.times import format_time
from service.auth import LOCAL, Keys, Principal, Role
from service.config import is_loopback
from service.intake import Intake, Refused
from service.metrics import WebMetrics
from service.ports import (
    Journal,
    JournalBusy,
    JournalError,
    JournalFull,
    Receipt,
)

log = logging.getLogger(__name__)

REPORT_BYTES = 256 * 1024
BATCH_BYTES = 2 * 1024 * 1024
BATCH_REPORTS = 1000
RETRY_SECONDS = (1, 3)  # jittered, so that refused senders do not come back all at once
NDJSON = "application/x-ndjson"
PROBLEM_JSON = "application/problem+json"
UNMATCHED = "unmatched"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_STATUS_REASON = {404: Reason.NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED, 413: Reason.BODY_TOO_LARGE}


class Refusal(Exception):
    """An answer that is not the one hoped for; becomes a problem document."""

    def __init__(self, reason: Reason, problems: Sequence[Problem] = (), **params: object) -> None:
        super().__init__(reason)
        self.reason, self.problems, self.params = reason, problems, params


class Api:
    """The routes of the API over its collaborators."""

    ROUTES = ("/v1/reports", "/v1/reports/batch", "/v1/reports/<report_id>", "/v1/catalogue")

    def __init__(self, intake: Intake, journal: Journal, keys: Keys, catalogue: Catalogue, metrics: WebMetrics) -> None:
        self._intake, self._journal, self._keys, self._metrics = intake, journal, keys, metrics
        self._catalogue = orjson.dumps(described(catalogue), option=orjson.OPT_INDENT_2)

    def app(self, *others: Blueprint) -> Flask:
        """The WSGI application."""
        app = Flask("gridgov", static_folder=None)
        app.before_request(self._begin)
        app.after_request(self._end)
        app.register_error_handler(Refusal, self._refused)
        app.register_error_handler(wire.Unreadable, self._unreadable)
        app.register_error_handler(JournalError, self._not_kept)
        app.register_error_handler(HTTPException, self._http_error)
        app.register_error_handler(Exception, self._internal_error)
        app.add_url_rule("/v1/reports", view_func=self.post_report, methods=["POST"])
        app.add_url_rule("/v1/reports/batch", view_func=self.post_batch, methods=["POST"])
        app.add_url_rule("/v1/reports/<report_id>", view_func=self.get_receipt, methods=["GET"])
        app.add_url_rule("/v1/catalogue", view_func=self.get_catalogue, methods=["GET"])
        for blueprint in others:
            app.register_blueprint(blueprint)
        return app

    # ---- routes ----

    def post_report(self) -> Response:
        """One report → 202 with its receipt."""
        sender = self._caller(Role.SENDER).name
        content_type("application/json")
        [answer] = self._intake.accept(sender, [wire.parse(body(REPORT_BYTES))], traceparent=traceparent())
        if isinstance(answer, Refused):
            raise Refusal(answer.reason, answer.problems)
        return reply(202, receipt(answer), {"Location": f"/v1/reports/{answer.report_id}"})

    def post_batch(self) -> Response:
        """Up to 1,000 reports → 202 when every one was accepted, else 207."""
        sender = self._caller(Role.SENDER).name
        items = lines() if content_type("application/json", NDJSON) == NDJSON else array()
        if len(items) > BATCH_REPORTS:
            raise Refusal(Reason.TOO_MANY_REPORTS, limit=BATCH_REPORTS)
        if not items:
            raise Refusal(Reason.EMPTY_BATCH)
        lang = language()
        answers = self._intake.accept(sender, items, traceparent=traceparent())
        results = [result(index, answer, lang) for index, answer in enumerate(answers)]
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        for one in refused:
            self._count(one)
        duplicates = sum(isinstance(answer, Receipt) and answer.duplicate for answer in answers)
        counts = {
            "accepted": len(answers) - len(refused) - duplicates,
            "duplicates": duplicates,
            "failed": len(refused),
        }
        return reply(207 if refused else 202, {**counts, "results": results})

    def get_receipt(self, report_id: str) -> Response:
        """The sender's own receipt."""
        found = self._journal.receipt(self._caller(Role.SENDER).name, report_id)
        if found is None:
            raise Refusal(Reason.NOT_FOUND)
        return reply(200, receipt(found))

    def get_catalogue(self) -> Response:
        """The district's table."""
        self._caller()
        return Response(self._catalogue, content_type="application/json")

    # ---- who is asking ----

    def _caller(self, role: Role | None = None) -> Principal:
        principal = self._keys.who(request.headers.get("Authorization"))
        if principal is None and not self._keys.configured and "Authorization" not in request.headers and local():
            principal = LOCAL
        if principal is None:
            raise Refusal(Reason.UNAUTHENTICATED)
        g.sender = principal.name
        if role is not None and role not in principal.roles:
            raise Refusal(Reason.FORBIDDEN)
        return principal

    # ---- around every request ----

    def _begin(self) -> None:
        g.started = time.perf_counter()
        self._metrics.http_in_progress.inc()
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

    def _end(self, response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else UNMATCHED
        method = request.method if request.method in ("GET", "POST") else "other"
        self._metrics.http_in_progress.dec()
        self._metrics.http_requests.labels(method, route, str(response.status_code)).inc()
        self._metrics.http_seconds.labels(method, route).observe(time.perf_counter() - g.started)
        response.headers["X-Request-Id"] = g.request_id
        return response

    # ---- what can go wrong ----

    def _refused(self, refusal: Refusal) -> Response:
        self._count(refusal)
        return problem(refusal.reason, refusal.problems, **refusal.params)

    def _count(self, refused: Refusal | Refused) -> None:
        for reason in {one.reason for one in refused.problems} or {refused.reason}:
            self._metrics.rejections.labels(reason).inc()

    def _unreadable(self, error: wire.Unreadable) -> Response:
        return self._refused(Refusal(error.reason))

    def _not_kept(self, error: JournalError) -> Response:
        reason = {JournalFull: Reason.JOURNAL_FULL, JournalBusy: Reason.OVERLOADED}.get(type(error))
        return self._refused(Refusal(reason or Reason.JOURNAL_UNAVAILABLE))

    def _http_error(self, error: HTTPException) -> Response:
        reason = _STATUS_REASON.get(error.code or 500)
        response = self._refused(Refusal(reason or Reason.INTERNAL_ERROR))
        if error.code == 405:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or []))  # type: ignore[attr-defined]
        return response

    def _internal_error(self, error: Exception) -> Response:
        log.error("request failed", exc_info=error, extra={"request_id": g.request_id, "path": request.path})
        return self._refused(Refusal(Reason.INTERNAL_ERROR))


# ---- reading ----


def content_type(*allowed: str) -> str:
    """The request's media type if it is one of `allowed`, in UTF-8 and not encoded further."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(Reason.UNSUPPORTED_ENCODING)
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in allowed or charset not in ("utf-8", "utf8"):
        raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, choices=allowed)
    return request.mimetype


def body(limit: int) -> bytes:
    """The whole body, exactly as long as announced, at most `limit` bytes.

    Not `request.get_data()`: that takes a truncated body for a whole one. Not chunked either: the server gives us a
    chunked body that broke off as if it were whole, so its length must be announced (a buffering proxy sees to that).
    """
    announced = request.headers.get("Content-Length", "")
    if "Transfer-Encoding" in request.headers or not (announced.isascii() and announced.isdigit()):
        raise Refusal(Reason.BAD_LENGTH)
    if int(announced) > limit:
        raise Refusal(Reason.BODY_TOO_LARGE, limit=limit)
    data: bytes = request.environ["wsgi.input"].read(limit + 1)
    if len(data) != int(announced):
        raise Refusal(Reason.TRUNCATED_BODY)
    return data


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


def local() -> bool:
    """Whether the request comes straight from this machine; behind a proxy it may come from anywhere."""
    forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip"))
    return is_loopback(request.remote_addr or "") and not forwarded


def traceparent() -> str | None:
    """The W3C trace context, if it came with one that can be trusted in a header."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None


def language() -> Lang:
    """Chinese unless the client would rather have English."""
    best = request.accept_languages.best_match(["zh", "en"], default="zh")
    return "en" if best == "en" else "zh"


# ---- answering ----


def reply(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status=status, content_type="application/json", headers=headers)


def receipt(known: Receipt) -> dict[str, Any]:
    """The receipt as the API shows it."""
    shown: dict[str, Any] = {
        "report_id": known.report_id,
        "case_id": known.case_id,
        "topic": known.topic,
        "received_at": format_time(known.received_at),
        "duplicate": known.duplicate,
        "state": known.state,
    }
    if known.settled_at is not None:
        shown |= {
            "partition": known.partition,
            "offset": known.offset,
            "settled_at": format_time(known.settled_at),
        }
    return shown | ({"reason": known.reason} if known.reason else {})


def problem(reason: Reason, problems: Iterable[Problem] = (), **params: object) -> Response:
    """RFC 9457, in the client's language."""
    lang = language()
    document = {
        "type": f"urn:gridgov:problem:{reason}",
        "title": message(reason, lang, **params),
        "status": reason.status,
        "code": reason,
        "request_id": g.request_id,
        "retryable": reason.retryable,
        "errors": errors(problems, lang),
    }
    headers = {"Content-Language": lang, "Vary": "Accept-Language"}
    if reason.status in (429, 503):
        low, high = RETRY_SECONDS
        headers["Retry-After"] = str(low + secrets.randbelow(high - low + 1))
    if reason.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(document), status=reason.status, content_type=PROBLEM_JSON, headers=headers)


def errors(problems: Iterable[Problem], lang: Lang) -> list[dict[str, str]]:
    """The `errors` member of a problem document or a batch result."""
    return [
        {"pointer": one.pointer, "code": one.reason, "message": message(one.reason, lang, **one.params)}
        for one in problems
    ]


def result(index: int, answer: Receipt | Refused, lang: Lang) -> dict[str, Any]:
    """One line of a batch's answer."""
    if isinstance(answer, Receipt):
        return {
            "index": index,
            "report_id": answer.report_id,
            "status": 202,
            "duplicate": answer.duplicate,
            "code": None,
            "errors": [],
            "retryable": False,
        }
    listed = errors(answer.problems or [Problem("", answer.reason)], lang)
    return {
        "index": index,
        "report_id": answer.report_id,
        "status": answer.reason.status,
        "duplicate": False,
        "code": answer.reason,
        "errors": listed,
        "retryable": answer.reason.retryable,
    }


def described(catalogue: Catalogue) -> dict[str, Any]:
    """The catalogue as `GET /v1/catalogue` shows it."""
    return {
        "edition": catalogue.edition,
        "title": catalogue.edition_title,
        "district": {"code": catalogue.district_code, "zh": catalogue.district_zh, "en": catalogue.district_en},
        "kinds": [
            {
                "kind": kind.kind,
                "zh": kind.zh,
                "en": kind.en,
                "majors": [
                    {"major": major.major, "zh": major.zh, "en": major.en, "topic": major.topic}
                    for major in catalogue.majors.values()
                    if major.kind == kind.kind
                ],
                "categories": [
                    {"code": category.code, "zh": category.zh, "en": category.en}
                    for category in catalogue.categories.values()
                    if category.kind == kind.kind
                ],
                "standards": [
                    {
                        "standard": one.standard,
                        "limit_seconds": one.limit_seconds,
                        "category": one.category,
                        "zh": one.zh,
                        "en": one.en,
                    }
                    for one in catalogue.standards
                    if one.kind == kind.kind
                ],
            }
            for kind in catalogue.kinds.values()
        ],
        "stages": [{"stage": one.stage, "zh": one.zh, "en": one.en} for one in catalogue.stages.values()],
        "streets": [{"street_code": one.street_code, "zh": one.zh, "en": one.en} for one in catalogue.streets.values()],
    }
