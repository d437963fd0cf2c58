"""Who may do what: every route there is, for everybody there is. A route without a line here fails."""

from __future__ import annotations

import hashlib
import hmac
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from flask import Blueprint, Flask
from prometheus_client import CollectorRegistry

from schemas.catalogue import Catalogue
from schemas.reasons import Reason
from service import docs, ops
from service.cases import api as case_api
from service.domain.meaning import Flag
from service.intake import api, scopes
from service.intake.accept import Intake
from service.intake.api import Api
from service.intake.gate import Gate
from service.intake.keys import Digest, Keys, Role
from service.intake.policies import STRICTEST, Policies
from service.intake.scopes import networks
from service.metrics import web_metrics
from tests.unit.test_openapi import GOOD, NOW_MS, Book

HERE, NEAR, FAR = "127.0.0.1", "192.0.2.5", "203.0.113.9"
OWN = "sender"  # whose the one case is
BODIES = {"/v1/reports": orjson.dumps(GOOD), "/v1/reports/batch": orjson.dumps([GOOD])}

# who              no key, from a stranger's address, from this machine, from a trusted network;
#                  a sender; one that may speak of all cases; one of other categories; one that signs; a reader;
#                  a sender's key: from elsewhere, revoked, expired
WHO = ["far", "here", "near", "sender", "all", "other", "signs", "reader", "elsewhere", "revoked", "expired"]
OPEN = [200] * 11
KEPT = [401, 401, 401, 200, 200, 200, 200, 200, 403, 401, 401]
WATCHED = [401, 200, 200, 403, 403, 403, 403, 200, 403, 401, 401]
MATRIX: dict[tuple[str, str], list[int]] = {
    ("POST", "/v1/reports"): [401, 401, 401, 202, 202, 403, 202, 403, 403, 401, 401],
    ("POST", "/v1/reports/batch"): [401, 401, 401, 202, 202, 207, 202, 403, 403, 401, 401],
    ("GET", "/v1/reports/<report_id>"): [401, 401, 401, 404, 404, 404, 404, 403, 403, 401, 401],
    ("GET", "/v1/catalogue"): KEPT,
    ("GET", "/v1/cases"): KEPT,
    ("GET", "/v1/cases/<case_id>"): [401, 401, 401, 200, 200, 404, 404, 200, 403, 401, 401],
    **{("GET", route): WATCHED for route in ops.ROUTES},
    **{("GET", route): OPEN for route in docs.ROUTES},
}


class Owned(Book):
    """Its one case belongs to `OWN`."""

    def one(self, case_id: str, owner: str | None) -> dict[str, Any] | None:
        return super().one("done", owner) if owner in (None, OWN) else None


def whole(keys: Keys, book: Book, *more: Blueprint, policies: Policies = STRICTEST) -> Flask:
    """The application as the composition root puts it together, on a book instead of a journal."""
    catalogue, registry = Catalogue.load(), CollectorRegistry()
    routes = [*Api.ROUTES, *case_api.ROUTES, *docs.ROUTES, *ops.ROUTES, api.UNMATCHED]
    metrics = web_metrics(
        registry, routes=routes, majors=catalogue.majors, stages=[], reasons=list(Reason), flags=list(Flag)
    )
    intake = Intake(
        catalogue, book, metrics, clock=lambda: NOW_MS + 10**12, accept_unknown_minor=False, policies=policies
    )
    probes = ops.blueprint(registry, alive=lambda: True, ready=lambda: ops.Readiness(ops.Health.READY))
    gate = Gate(keys, trusted=networks([f"{HERE}/32", f"{NEAR}/32"]))
    made = Api(intake, book, gate, catalogue=catalogue, metrics=metrics, audit=lambda *_: None)  # type: ignore[arg-type]  # of a journal it asks receipts only
    told_of = case_api.blueprint(book, gate)  # type: ignore[arg-type]  # and so with cases
    app = made.app(probes, docs.blueprint(), told_of, *more)
    gate.guard(app, probes.name)
    return app


def callers(keys: Keys) -> dict[str, tuple[str, str | None]]:
    """Everybody by name: the address, and the key."""
    revoked = keys.add("revoked", Role.SENDER)
    keys.revoke(revoked[3:11])
    return {
        "far": (FAR, None),
        "here": (HERE, None),
        "near": (NEAR, None),
        "sender": (FAR, keys.add(OWN, Role.SENDER)),
        "all": (FAR, keys.add("all", Role.SENDER, scopes.parse({"cases": "all"}))),
        "other": (FAR, keys.add("other", Role.SENDER, scopes.parse({"categories": ["0304"]}))),
        "signs": (FAR, keys.add("signs", Role.SENDER, digest=Digest.SHA256)),
        "reader": (FAR, keys.add("reader", Role.READER)),
        "elsewhere": (FAR, keys.add("elsewhere", Role.SENDER, scopes.parse({"networks": [NEAR]}))),
        "revoked": (FAR, revoked),
        "expired": (FAR, keys.add("expired", Role.SENDER, lives=timedelta(0))),
    }


def routes(app: Flask) -> set[tuple[str, str]]:
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def shown(who: str, key: str | None, method: str, path: str) -> dict[str, str]:
    """How a key is shown."""
    if key is None:
        return {}
    if who != "signs":
        return {"Authorization": f"Bearer {key}"}
    digest, stamp = hashlib.sha256(BODIES.get(path, b"")).hexdigest(), str(int(time.time()))
    signature = hmac.new(key[12:].encode(), "\n".join((method, path, "", digest, stamp)).encode(), "sha256").hexdigest()
    return {"X-App-Key": key[:11], "X-Timestamp": stamp, "X-Content-Digest": digest, "X-Signature": signature}


def otherwise(directory: Path, *more: Blueprint) -> list[str]:
    """What is not as the matrix says: routes without a line, lines without a route, answers."""
    keys = Keys(directory / "keys.json")
    client, everybody = whole(keys, Owned(), *more).test_client(), callers(keys)
    assert list(everybody) == WHO
    wrong = [
        f"{method} {route}: no such line and route" for method, route in MATRIX.keys() ^ routes(client.application)
    ]
    for (method, route), expected in MATRIX.items():
        path = route.replace("<report_id>", "r-0").replace("<case_id>", "c-1").replace("<path:filename>", "docs.js")
        path = path.replace("/docs/<language>/docs.js", "/docs/zh/index.html")
        found = {}
        for who, (address, key) in everybody.items():
            headers = {**shown(who, key, method, path), "Content-Type": "application/json"}
            with client.open(
                path,
                method=method,
                data=BODIES.get(path),
                headers=headers,
                environ_overrides={"REMOTE_ADDR": address, "HTTP_HOST": "gridgov.example"},
            ) as answer:
                found[who] = answer.status_code
        told = dict(zip(WHO, expected, strict=True))
        wrong += [
            f"{method} {route}: {who} got {found[who]}, not {told[who]}" for who in WHO if found[who] != told[who]
        ]
    return wrong


def test_everybody_may_do_what_the_matrix_says_on_every_route(tmp_path: Path) -> None:
    assert otherwise(tmp_path) == []


def test_control_a_route_without_a_line_fails(tmp_path: Path) -> None:
    new = Blueprint("new", __name__)
    new.add_url_rule("/v1/new", view_func=lambda: "new")
    assert otherwise(tmp_path, new) == ["GET /v1/new: no such line and route"]
