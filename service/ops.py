"""What a process tells about itself: `/metrics`, `/livez`, `/readyz`; on its own port, never queueing behind intake."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson
from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_options_header
from werkzeug.serving import WSGIRequestHandler, make_server

ROUTES = ("/metrics", "/livez", "/readyz")
RETRY_SECONDS = "5"
HANG_SECONDS = 30  # a loop that has not turned for so long will not
OPENMETRICS, VERSION = "application/openmetrics-text", "1.0.0"  # the one version of it that is written here
TEXT = ("text/plain", "text/*", "*/*")  # who takes one of these takes the text


class Health(StrEnum):
    """Whether a process can do its work now."""

    READY = "ready"
    DEGRADED = "degraded"  # it does its work, and something around it does not
    UNREADY = "unready"


@dataclass(frozen=True, slots=True)
class Readiness:
    """How ready a process is, with the reasons when it is not simply ready."""

    health: Health
    reasons: tuple[str, ...] = ()


def mentioning(ready: Callable[[], Readiness], *ailments: Callable[[], str | None]) -> Callable[[], Readiness]:
    """The same readiness, degraded by what else is wrong."""

    def also_ready() -> Readiness:
        now = ready()
        found = tuple(why for ask in ailments if (why := ask()))
        health = Health.DEGRADED if found and now.health is Health.READY else now.health
        return Readiness(health, now.reasons + found)

    return also_ready


class Untold(Exception):
    """The metrics cannot be told at this moment; none at all are better than wrong ones."""


def blueprint(
    registry: CollectorRegistry,
    *,
    alive: Callable[[], bool],
    ready: Callable[[], Readiness],
    also: Callable[[], Mapping[str, str]] = dict,
) -> Blueprint:
    """The three routes. `alive` must ask nothing outside the process; on what `/readyz` tells `also` nobody depends."""
    ops = Blueprint("ops", __name__)

    @ops.get("/metrics")
    def metrics() -> Response:
        encode, content_type = _form(request.accept_mimetypes)
        try:
            return Response(encode(registry), content_type=content_type)
        except Untold as error:
            return _answer(503, {"status": "untold", "reasons": [str(error)]})

    @ops.get("/livez")
    def livez() -> Response:
        lives = alive()
        return _answer(200 if lives else 503, {"status": "live" if lives else "dead"})

    @ops.get("/readyz")
    def readyz() -> Response:
        now = ready()
        return _answer(
            503 if now.health is Health.UNREADY else 200, {"status": now.health, "reasons": now.reasons, **also()}
        )

    return ops


def app(ops: Blueprint) -> Flask:
    """An application of these routes alone, without a page anywhere: no browser comes here."""
    made = Flask("gridgov-ops", static_folder=None)
    made.url_map.merge_slashes = False  # a redirect would name the Host header's host, in HTML
    made.register_blueprint(ops)
    made.register_error_handler(HTTPException, _bare)
    made.after_request(_protected)
    return made


def serve(ops: Blueprint, host: str, port: int, *, begin: Callable[[], object] = lambda: None) -> None:
    """Answer on a port of its own from a daemon thread, from when `begin` returns; who asks sooner waits.

    Raises SystemExit when the port is taken.
    """
    server = make_server(host, port, app(ops), threaded=True, request_handler=_Handler)

    def answer() -> None:
        begin()
        server.serve_forever()

    threading.Thread(target=answer, name="ops", daemon=True).start()


class _Handler(WSGIRequestHandler):
    error_message_format, error_content_type = "", "text/plain"  # no page for what is no HTTP, either

    def version_string(self) -> str:
        """No word of what this is made with."""
        return "gridgov"

    def log_error(self, format: str, *args: object) -> None:
        """Nothing: what is no HTTP would stand in the log as it came."""


def _bare(error: HTTPException) -> Response:
    """The status and its headers (a 405 names what is allowed), and nothing else."""
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    return Response(status=error.code, headers=headers, content_type="text/plain")


def _protected(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _form(accepted: MIMEAccept) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """How the metrics are written: as OpenMetrics for who likes that best, else as the text that everybody reads.

    Not by the client's `choose_encoder`: a version in quotes, which is legal, or one that is no number, made it raise.
    Nor by the order of `accepted`, which is by how exactly a type is named, not by how much it is liked.
    """
    ranges = [(*parse_options_header(wanted), quality) for wanted, quality in accepted]
    text = [quality for kind, _, quality in ranges if kind.lower() in TEXT]
    rich = [q for kind, given, q in ranges if kind.lower() == OPENMETRICS and given.get("version", VERSION) == VERSION]
    if 0 < max(rich, default=0) >= max(text, default=0):
        return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
    return exposition.generate_latest, exposition.CONTENT_TYPE_PLAIN_0_0_4


def _answer(status: int, body: object) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": RETRY_SECONDS} if status == 503 else {})
    return Response(orjson.dumps(body), status=status, content_type="application/json", headers=headers)
