"""The HTTP API: its routes but for the cases, and what happens around every request. Contract: `/openapi.json`."""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from schemas import wire
from schemas.catalogue import Catalogue
from schemas.reasons import Lang, Reason
from schemas.report import Problem
from schemas.times import format_time
from service.intake import body
from service.intake.accept import Intake, Refused
from service.intake.edge import (
    ASKED,
    NDJSON,
    Asked,
    Environ,
    Refusal,
    asked,
    check_host,
    content_type,
    errors,
    language,
    problem,
    reply,
)
from service.intake.gate import Gate
from service.intake.keys import Role
from service.intake.lean import LeanFlask
from service.metrics import Bound, WebMetrics
from service.ports import (
    Inbox,
    JournalBusy,
    JournalError,
    JournalFull,
    Receipt,
)

log = logging.getLogger(__name__)

UNMATCHED = "unmatched"
_STATUS_REASON = {404: Reason.NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED, 413: Reason.BODY_TOO_LARGE}


class Api:
    """The routes of the API over its collaborators."""

    ROUTES = ("/v1/reports", "/v1/reports/batch", "/v1/reports/<report_id>", "/v1/catalogue")

    def __init__(
        self,
        intake: Intake,
        journal: Inbox,
        gate: Gate,
        *,
        catalogue: Catalogue,
        metrics: WebMetrics,
        audit: Callable[[int, str, Environ], None],
    ) -> None:
        self._audit = audit
        self._intake, self._journal, self._gate = intake, journal, gate
        self._in_progress = metrics.http_in_progress
        self._requests, self._seconds = Bound(metrics.http_requests), Bound(metrics.http_seconds)
        self._rejections = Bound(metrics.rejections)
        self._catalogue = orjson.dumps(described(catalogue), option=orjson.OPT_INDENT_2)

    def app(self, *others: Blueprint) -> Flask:
        """The WSGI application."""
        app = LeanFlask(self._begin, self._end)
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
        environ = request.environ
        sender = self._gate.caller(environ, Role.SENDER)
        content_type(environ, "application/json")
        report = body.value(environ, body.REPORT_BYTES)
        [answer] = self._intake.accept(sender, [report], traceparent=environ[ASKED].traceparent)
        if isinstance(answer, Refused):
            raise Refusal(answer.reason, answer.problems)
        return reply(202, receipt(answer), {"Location": f"/v1/reports/{answer.report_id}"})

    def post_batch(self) -> Response:
        """Up to 1,000 reports → 202 when every one was accepted, else 207."""
        environ = request.environ
        sender = self._gate.caller(environ, Role.SENDER)
        ndjson = content_type(environ, "application/json", NDJSON) == NDJSON
        items = body.lines(environ) if ndjson else body.array(environ)
        if len(items) > body.BATCH_REPORTS:
            raise Refusal(Reason.TOO_MANY_REPORTS, limit=body.BATCH_REPORTS)
        if not items:
            raise Refusal(Reason.EMPTY_BATCH)
        self._gate.charge(environ, sender, len(items))
        lang = language()
        answers = self._intake.accept(sender, items, traceparent=environ[ASKED].traceparent)
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
        headers = {"Content-Language": lang, "Vary": "Accept-Language"}
        return reply(207 if refused else 202, {**counts, "results": results}, headers)

    def get_receipt(self, report_id: str) -> Response:
        """The sender's own receipt."""
        found = self._journal.receipt(self._gate.caller(request.environ, Role.SENDER).name, report_id)
        if found is None:
            raise Refusal(Reason.NOT_FOUND)
        return reply(200, receipt(found))

    def get_catalogue(self) -> Response:
        """The district's table."""
        self._gate.caller(request.environ)
        return Response(self._catalogue, content_type="application/json")

    # ---- around every request ----

    def _begin(self, asked: Request) -> None:
        environ = asked.environ
        environ[ASKED] = Asked(environ)
        self._in_progress.inc()
        check_host(environ)

    def _end(self, asked: Request, response: Response) -> None:
        now, rule, method, status = asked.environ[ASKED], asked.url_rule, asked.method, response.status_code
        route = rule.rule if rule else UNMATCHED
        method = method if method in ("GET", "POST") else "other"
        self._in_progress.dec()
        self._requests[method, route, str(status)].inc()
        exemplar = {"trace_id": now.trace_id} if now.trace_id else None
        self._seconds[method, route].observe(time.perf_counter() - now.started, exemplar)
        response.headers["X-Request-Id"] = now.request_id
        self._gate.close(asked.environ, response)
        if body.doubtful(asked.environ) or (status >= 400 and not body.drain(asked.environ)):
            response.headers["Connection"] = "close"

    # ---- what can go wrong ----

    def _refused(self, refusal: Refusal) -> Response:
        self._count(refusal)
        return problem(refusal.reason, refusal.problems, **refusal.params)

    def _count(self, refused: Refusal | Refused) -> None:
        if refused.reason.status in (401, 403):
            self._audit(refused.reason.status, refused.reason, request.environ)
        for reason in {one.reason for one in refused.problems} or {refused.reason}:
            self._rejections[reason,].inc()

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
        log.error("request failed", exc_info=error, extra={"request_id": asked().request_id, "path": request.path})
        return self._refused(Refusal(Reason.INTERNAL_ERROR))


# ---- what is shown ----


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
