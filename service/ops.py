"""What a process tells about itself: `/metrics`, `/livez`, `/readyz`; on its own port, never queueing behind intake."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import orjson
from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

ROUTES = ("/metrics", "/livez", "/readyz")
RETRY_SECONDS = "5"
HANG_SECONDS = 30  # a loop that has not turned for so long will not


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


def blueprint(registry: CollectorRegistry, *, alive: Callable[[], bool], ready: Callable[[], Readiness]) -> Blueprint:
    """The three routes. `alive` must ask nothing outside the process."""
    ops = Blueprint("ops", __name__)

    @ops.get("/metrics")
    def metrics() -> Response:
        encode, content_type = _form(request.accept_mimetypes)
        return Response(encode(registry), content_type=content_type)

    @ops.get("/livez")
    def livez() -> Response:
        return _answer(200 if alive() else 503, {"status": "live" if alive() else "dead"})

    @ops.get("/readyz")
    def readyz() -> Response:
        now = ready()
        return _answer(503 if now.health is Health.UNREADY else 200, {"status": now.health, "reasons": now.reasons})

    return ops


def serve(ops: Blueprint, host: str, port: int) -> None:
    """Answer on a port of its own from a daemon thread. Raises SystemExit when the port is taken."""
    app = Flask("gridgov-ops")
    app.register_blueprint(ops)
    app.register_error_handler(
        HTTPException, lambda error: Response(status=error.code)
    )  # no page where no browser comes
    server = make_server(host, port, app, threaded=True)
    threading.Thread(target=server.serve_forever, name="ops", daemon=True).start()


def _form(accepted: MIMEAccept) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """How the metrics are written: as OpenMetrics for who likes it best, else as the text that everybody reads.

    Not by the client's `choose_encoder`: a version in quotes, which is legal, or one that is no number, made it raise.
    """
    for wanted, quality in accepted:  # in order of preference
        kind = wanted.partition(";")[0].strip().lower()
        if quality > 0 and kind == "application/openmetrics-text":
            return openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
        if quality > 0 and kind in ("text/plain", "text/*", "*/*"):
            break
    return exposition.generate_latest, exposition.CONTENT_TYPE_PLAIN_0_0_4


def _answer(status: int, body: object) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": RETRY_SECONDS} if status == 503 else {})
    return Response(orjson.dumps(body), status=status, content_type="application/json", headers=headers)
