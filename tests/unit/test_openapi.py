"""The OpenAPI document says what the API does: every route, code, limit and example, and what really is answered."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openapi_spec_validator
import orjson
import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

from schemas import generate
from schemas.catalogue import Catalogue
from schemas.openapi import answers, cases, parts, paths
from schemas.openapi import document as openapi
from schemas.promise import PROMISE, PROMISE_ZH
from schemas.reasons import Reason
from schemas.times import format_time
from service import docs, ops
from service.cases import api as case_api
from service.cases.search import Search
from service.domain.case import Outcome, Phase
from service.domain.meaning import Flag
from service.domain.view import view
from service.intake import api
from service.intake import body as bodies
from service.intake.accept import Intake
from service.intake.api import Api
from service.intake.gate import Gate
from service.intake.keys import Keys, Role
from service.metrics import web_metrics
from service.ports import Conflict, JournalBusy, JournalError, JournalFull, Message, ParkReason, Receipt, State
from tests.unit.case_stories import RULES, live, ms

DOCUMENT: dict[str, Any] = orjson.loads(orjson.dumps(openapi.document(generate.report_schema())))
NOW_MS = 1_604_448_000_250  # 2020-11-04T00:00:00.250Z
SERVICE = Path(api.__file__).parent
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
ROUTES = {*Api.ROUTES, *case_api.ROUTES, *docs.ROUTES, *ops.ROUTES}
AS_OF = format_time(NOW_MS)
HISTORIES = {
    "no-clock": ("repair", "arrived@60"),
    "done": ("incident", "reported@0 arrived@60 finished@1500 approved@9000"),
    "again": ("repair", "reported@0 finished@90 returned@100 suspended@200"),
    "off": ("incident", "reported@0 cancelled@60"),
}
CASES = {
    name: view(live(kind, words, until=90_000)[0], ms(90_000), RULES) | {"as_of": AS_OF}
    for name, (kind, words) in HISTORIES.items()
}
GOOD = {
    "report_id": "r-1",
    "case_id": "c-1",
    "kind": "repair",
    "category": "0211",
    "stage": "arrived",
    "occurred_at": "2020-11-04T08:00:00+08:00",
}


class Book:
    """Stands in for journal, writer and casebook: remembers receipts, knows one case, or fails as told."""

    def __init__(self) -> None:
        self.receipts: dict[str, Receipt] = {}
        self.contents: dict[str, bytes] = {}
        self.error: JournalError | None = None

    def submit(self, messages: Sequence[Message]) -> list[Receipt | Conflict]:
        if self.error:
            raise self.error
        return [self._one(message) for message in messages]

    def _one(self, message: Message) -> Receipt | Conflict:
        if self.contents.setdefault(message.report_id, message.fingerprint) != message.fingerprint:
            return Conflict(message.report_id)
        if known := self.receipts.get(message.report_id):
            return replace(known, duplicate=True)
        made = Receipt(message.report_id, message.case_id, message.topic, message.received_at, State.PENDING)
        self.receipts[message.report_id] = made
        return made

    def receipt(self, sender: str, report_id: str) -> Receipt | None:
        if self.error:
            raise self.error
        return self.receipts.get(report_id)

    def one(self, case_id: str, sender: str | None) -> dict[str, Any] | None:
        if self.error:
            raise self.error
        return CASES.get(case_id)

    def some(self, wanted: Search, after: str, limit: int) -> dict[str, Any]:
        if self.error:
            raise self.error
        return {"cases": list(CASES.values()), "next": "case", "as_of": AS_OF}


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.json")


@pytest.fixture
def client(book: Book, keys: Keys) -> FlaskClient:
    """The API on a book instead of a journal, at noon of a certain day."""
    catalogue, registry = Catalogue.load(), CollectorRegistry()
    routes = [*ROUTES, api.UNMATCHED]
    metrics = web_metrics(
        registry, routes=routes, majors=catalogue.majors, stages=[], reasons=list(Reason), flags=list(Flag)
    )
    intake = Intake(catalogue, book, metrics, clock=lambda: NOW_MS + 10**12, accept_unknown_minor=False)
    probes = ops.blueprint(registry, alive=lambda: True, ready=lambda: ops.Readiness(ops.Health.READY))
    gate = Gate(keys)
    made = Api(intake, book, gate, catalogue=catalogue, metrics=metrics, audit=lambda *_: None)  # type: ignore[arg-type]  # of a journal it asks receipts only
    told_of = case_api.blueprint(book, gate)  # type: ignore[arg-type]  # and so with cases
    return made.app(probes, docs.blueprint(), told_of).test_client()


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def followed(part: Any) -> Any:
    """What a `$ref` of the document points to."""
    while "$ref" in part:
        found = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def contents() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where, status ("" of a request) and content by media type, for everything that has one."""
    for path, method, operation in operations():
        where = f"{method} {path}"
        yield where, "", operation.get("requestBody", {}).get("content", {})
        for status, response in operation["responses"].items():
            yield where, status, followed(response)["content"]


def shown() -> Iterator[tuple[str, str, str, dict[str, Any], Any]]:
    """Where, status, media type, schema and value of every example."""
    for where, status, content in contents():
        for media, part in content.items():
            for example in part.get("examples", {}).values():
                yield where, status, media, part["schema"], example["value"]


def test_it_is_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(DOCUMENT)


def test_every_route_is_described_and_nothing_else(client: FlaskClient) -> None:
    rules = list(client.application.url_map.iter_rules())
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method.upper()) for path, method, _ in operations()} == routes
    assert {rule.rule for rule in rules} == ROUTES  # the labels of the metrics


def test_the_report_is_the_published_schema() -> None:
    published = generate.report_schema()
    embedded = DOCUMENT["components"]["schemas"]["Report"]
    assert {name: published[name] for name in embedded} == embedded
    assert published.keys() - embedded.keys() == {"$schema", "$id"}


def test_the_promise_is_verbatim() -> None:
    accepted = DOCUMENT["paths"]["/v1/reports"]["post"]["responses"]["202"]["description"]
    for promise in (PROMISE, PROMISE_ZH):
        assert promise in DOCUMENT["info"]["description"]
        assert promise in accepted


def test_everything_is_said_in_both_languages() -> None:
    said = [text for _, _, operation in operations() for text in (operation["summary"], operation["description"])]
    said += [followed(answer)["description"] for _, _, one in operations() for answer in one["responses"].values()]
    said += [schema["description"] for name, schema in DOCUMENT["components"]["schemas"].items() if name != "Report"]
    said += [tag["description"] for tag in DOCUMENT["tags"]]
    plain = {"Prometheus", "OpenAPI 3.1"}
    assert [text for text in said if not (re.search("[一-鿿]", text) and re.search("[a-z]", text))] == [
        text for text in said if text in plain
    ]


def test_every_code_is_listed_and_explained() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for reason in Reason:
        listed = schemas["FieldCode" if reason.status is None else "Code"]
        assert reason.value in listed["enum"]
        assert f"| `{reason}`" in listed["description"]
    assert len(schemas["FieldCode"]["enum"]) + len(schemas["Code"]["enum"]) == len(Reason)


def test_every_code_has_an_example_under_its_status_unless_it_is_reserved() -> None:
    examples = {
        (value["code"], value["status"], status)
        for _, status, media, _, value in shown()
        if media == "application/problem+json"
    }
    assert {code for code, _, _ in examples} == {r for r in Reason if r.status} - set(answers.RESERVED)
    for code, told, status in examples:
        assert told == Reason(code).status
        assert status in (str(told), "default")


def test_reserved_codes_are_given_by_nobody() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in SERVICE.rglob("*.py"))
    assert "Reason.JOURNAL_FULL" in source
    assert [reason for reason in answers.RESERVED if f"Reason.{reason.name}" in source] == []


def test_every_503_of_the_api_says_when_to_come_back() -> None:
    busy = [
        response
        for path, _, operation in operations()
        for status, response in operation["responses"].items()
        if status == "503" and path.startswith("/v1/")
    ]
    assert len(busy) == 5
    assert all("Retry-After" in response["headers"] for response in busy)


@pytest.mark.parametrize(
    ("where", "status", "media", "schema", "value"),
    list(shown()),
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_examples_are_valid(where: str, status: str, media: str, schema: dict[str, Any], value: Any) -> None:
    if media == "application/x-ndjson":
        lines = [orjson.loads(line) for line in value.splitlines()]
        assert len(lines) > 1
        assert [list(validator({"$ref": "#/components/schemas/Report"}).iter_errors(line)) for line in lines] == [
            [] for _ in lines
        ]
    else:
        assert list(validator(schema).iter_errors(value)) == []


def test_example_requests_are_accepted(client: FlaskClient) -> None:
    taken = 0
    for where, status, media, _, value in shown():
        if not status:
            body = value.encode() if isinstance(value, str) else orjson.dumps(value)
            answer = client.post(where.removeprefix("post "), data=body, content_type=media)
            assert answer.status_code == 202, answer.text
            taken += 1
    assert taken >= 5  # most of them golden files


def test_the_example_catalogue_is_an_excerpt_of_the_real_one(client: FlaskClient) -> None:
    [excerpt] = [value for where, _, _, _, value in shown() if where == "get /v1/catalogue" and "edition" in value]
    assert part_of(excerpt, client.get("/v1/catalogue").json)


def part_of(small: Any, large: Any) -> bool:
    if isinstance(small, dict):
        return all(part_of(value, large[name]) for name, value in small.items())
    if isinstance(small, list):
        return all(any(part_of(item, other) for other in large) for item in small)
    return bool(small == large)


def test_limits_and_words_are_those_of_the_service() -> None:
    for name in ("REPORT_BYTES", "BATCH_BYTES", "BATCH_REPORTS"):
        assert getattr(parts, name) == getattr(bodies, name)
    assert (paths.PAGE_CASES, paths.MOST_CASES) == (case_api.PAGE_CASES, case_api.MOST_CASES)
    assert tuple(State) == answers.STATES
    assert tuple(ParkReason) == answers.PARK_REASONS
    assert tuple(Phase) == cases.PHASES
    assert tuple(Outcome) == cases.OUTCOMES
    needs = [need for _, _, operation in operations() for need in operation["security"]]
    named = {role for need in needs for roles in need.values() for role in roles}
    assert named == set(Role)


# ---- what is really answered ----


def told(answer: Response, path: str, method: str) -> None:
    """Assert that the document describes this answer: status, media type, body and headers."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    response = followed(responses.get(str(answer.status_code), responses["default"]))
    part = response["content"].get(answer.mimetype) or response["content"]["*/*"]
    if answer.is_json:
        assert list(validator(part["schema"]).iter_errors(answer.json)) == []
    sometimes = {"RateLimit", "RateLimit-Policy"} | ({"Allow"} if answer.status_code != 405 else set())
    assert response["headers"].keys() - sometimes <= set(answer.headers.keys())


def post(client: FlaskClient, value: Any, path: str = "/v1/reports", **options: Any) -> TestResponse:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    answer = client.post(path, data=body, headers={**JSON, **options})
    told(answer, path, "post")
    return answer


@pytest.mark.parametrize(
    "path", ["/v1/catalogue", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs"], ids=lambda path: path
)
def test_what_is_read_is_described(client: FlaskClient, path: str) -> None:
    with client.get(path) as answer:
        assert answer.status_code == 200
        told(answer, path, "get")


def test_files_of_the_page_are_described(client: FlaskClient) -> None:
    for name, status in (("docs.js", 200), ("none.js", 404)):
        with client.get(f"/docs/assets/{name}") as answer:
            assert answer.status_code == status
            told(answer, "/docs/assets/{filename}", "get")


def test_the_document_is_served(client: FlaskClient) -> None:
    assert client.get("/openapi.json").json == DOCUMENT


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (GOOD, 202, None),
        (b"{", 400, "malformed_json"),
        ([GOOD], 400, "not_an_object"),
        (GOOD | {"category": "0299x"}, 422, "invalid_report"),
        (GOOD | {"category": "9901"}, 422, "invalid_report"),
        (b" " * (bodies.REPORT_BYTES + 1), 413, "body_too_large"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)
def test_answers_to_a_report(client: FlaskClient, body: Any, status: int, code: str | None) -> None:
    answer = post(client, body)
    assert (answer.status_code, (answer.json or {}).get("code")) == (status, code)


def test_answers_to_repeats_and_questions(client: FlaskClient, book: Book) -> None:
    post(client, GOOD)
    assert post(client, GOOD).json["duplicate"] is True  # type: ignore[index]
    assert post(client, GOOD | {"stage": "finished"}).status_code == 409
    known = book.receipts["r-1"]
    parked = replace(known, state=State.PARKED, reason=ParkReason.RECORD_TOO_LARGE)
    for now in (known, replace(known, state=State.SETTLED, partition=0, offset=7, settled_at=NOW_MS), parked):
        book.receipts["r-1"] = now
        answer = client.get("/v1/reports/r-1")
        assert answer.json["state"] == now.state  # type: ignore[index]
        told(answer, "/v1/reports/{report_id}", "get")
    told(client.get("/v1/reports/r-2"), "/v1/reports/{report_id}", "get")


def test_answers_to_batches(client: FlaskClient) -> None:
    path = "/v1/reports/batch"
    assert post(client, [GOOD, GOOD], path).status_code == 202
    mixed = b"\n".join([orjson.dumps(GOOD), b"{", orjson.dumps(GOOD | {"case_id": "c-2"}), b"[]", b"{}"])
    assert post(client, mixed, path, **NDJSON).status_code == 207
    for body, code in (({}, "not_an_array"), ([], "empty_batch"), ([{}] * 1001, "too_many_reports")):
        assert post(client, body, path).json["code"] == code  # type: ignore[index]


@pytest.mark.parametrize("error", [JournalFull("full"), JournalBusy("busy"), JournalError("?")], ids=repr)
def test_answers_while_the_journal_fails(client: FlaskClient, book: Book, error: JournalError) -> None:
    book.error = error
    for path in ("/v1/reports", "/v1/reports/batch"):
        assert post(client, GOOD if path == "/v1/reports" else [GOOD], path).status_code == 503
    told(client.get("/v1/reports/r-1"), "/v1/reports/{report_id}", "get")


def test_answers_about_cases(client: FlaskClient, book: Book) -> None:
    found = {case["phase"] for case in CASES.values()}
    assert len(found) >= 3
    for name in (*CASES, "nobody"):
        answer = client.get(f"/v1/cases/{name}")
        assert answer.status_code == (200 if name in CASES else 404)
        told(answer, "/v1/cases/{case_id}", "get")
    for query, status in (("", 200), ("?phase=approved&overdue=true&limit=5", 200), ("?limit=0", 400), ("?x=1", 400)):
        answer = client.get(f"/v1/cases{query}")
        assert answer.status_code == status
        told(answer, "/v1/cases", "get")
    book.error = JournalError("unreadable")
    told(client.get("/v1/cases"), "/v1/cases", "get")
    told(client.get("/v1/cases/done"), "/v1/cases/{case_id}", "get")


def test_every_query_parameter_is_known(client: FlaskClient) -> None:
    known = [followed(one) for one in DOCUMENT["paths"]["/v1/cases"]["get"]["parameters"]]
    samples = {"boolean": ["true", "false"], "integer": ["1", "1000"], "string": ["a"]}
    asked = 0
    for parameter in known:
        shape = parameter["schema"]
        for value in shape.get("enum", samples[shape["type"]]) if parameter["in"] == "query" else []:
            assert client.get("/v1/cases", query_string={parameter["name"]: value}).status_code == 200
            asked += 1
    assert asked >= 20


def test_answers_to_the_wrong_people(client: FlaskClient, keys: Keys) -> None:
    reader = {"Authorization": f"Bearer {keys.add('sub-centre', Role.READER)}"}
    for headers, status in (({}, 401), (reader, 403)):
        assert post(client, GOOD, **headers).status_code == status
        answer = client.get("/v1/reports/r-1", headers=headers)
        assert answer.status_code == status
        told(answer, "/v1/reports/{report_id}", "get")
    told(client.get("/v1/catalogue"), "/v1/catalogue", "get")
    assert client.get("/v1/catalogue", headers=reader).status_code == 200


@pytest.mark.parametrize(
    ("environ", "body", "code"),
    [
        ({"SERVER_PROTOCOL": "HTTP/2"}, orjson.dumps(GOOD), None),
        ({"HTTP_TRANSFER_ENCODING": "Chunked"}, orjson.dumps(GOOD), None),
        ({"SERVER_PROTOCOL": "HTTP/2"}, orjson.dumps(GOOD)[:-1], "truncated_body"),
        ({"SERVER_PROTOCOL": "HTTP/2"}, b"", "truncated_body"),
        ({"HTTP_TRANSFER_ENCODING": "chunked, chunked"}, orjson.dumps(GOOD), "bad_length"),
        ({}, orjson.dumps(GOOD), "bad_length"),
    ],
)
def test_answers_to_a_body_of_unknown_length(
    client: FlaskClient, environ: dict[str, str], body: bytes, code: str | None
) -> None:
    stream = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_TYPE": "application/json"}
    answer = client.post("/v1/reports", environ_overrides={**stream, **environ})
    told(answer, "/v1/reports", "post")
    assert (answer.json or {}).get("code") == code


def test_answers_to_the_wrong_form(client: FlaskClient) -> None:
    assert post(client, GOOD, **{"Content-Type": "text/plain"}).status_code == 415
    assert post(client, GOOD, **{"Content-Encoding": "br"}).status_code == 415
    assert post(client, GOOD, **{"Content-Encoding": "gzip"}).json["code"] == "bad_gzip"  # type: ignore[index]
    assert post(client, GOOD, **{"Transfer-Encoding": "chunked"}).json["code"] == "bad_length"  # type: ignore[index]
    answer = client.put("/v1/reports", data=b"{}")
    assert answer.status_code == 405
    told(answer, "/v1/reports", "post")
