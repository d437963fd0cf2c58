"""What reaches us that is no report at all: broken bodies, wrong headers, wrong routes, half a request."""

from __future__ import annotations

import http.client
import select
import socket
from contextlib import ExitStack, closing
from typing import Any

import orjson
import pytest

from tests.gridgov import Gridgov, report, until
from tests.system.refusals import Answer, Refusal, ask, ask_raw, in_language, read_answer, refusal, refused

GOOD = orjson.dumps(report("edge"))
IDLE = 300  # connections that ask for nothing
POST = b"POST /v1/reports HTTP/1.1\r\nContent-Type: application/json\r\n"


def with_extra(spelling: bytes) -> bytes:
    return GOOD[:-1] + b',"extra":' + spelling + b"}"


UNREADABLE = {
    "half an object": (GOOD[:-1], "malformed_json"),
    "two values": (GOOD + GOOD, "malformed_json"),
    "trailing comma": (GOOD[:-1] + b",}", "malformed_json"),
    "single quotes": (GOOD.replace(b'"', b"'"), "malformed_json"),
    "NaN": (with_extra(b'{"n":NaN}'), "malformed_json"),
    "Infinity": (with_extra(b'{"n":Infinity}'), "malformed_json"),
    "minus Infinity": (with_extra(b'{"n":-Infinity}'), "malformed_json"),
    "a number beyond floats": (with_extra(b'{"n":1e999}'), "malformed_json"),
    "an integer beyond 64 bits": (with_extra(b'{"n":18446744073709551616}'), "number_too_big"),
    "lone surrogate": (with_extra(rb'{"s":"\ud83d"}'), "malformed_json"),
    "lone surrogate as bytes": (with_extra(b'{"s":"\xed\xa0\xbd"}'), "not_utf8"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "not_utf8"),
    "GBK": (GOOD.decode().encode("gbk", "replace"), "not_utf8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not_utf8"),
    "a key twice": (GOOD[:-1] + b',"kind":"repair"}', "duplicate_key"),
    "a key twice, once escaped": (GOOD[:-1] + rb',"\u006bind":"repair"}', "duplicate_key"),
    "a key twice inside": (with_extra(b'{"a":[{"b":1,"b":1}]}'), "duplicate_key"),
    "a thousand levels": (with_extra(b'{"a":' * 1000 + b"1" + b"}" * 1000), "nested_too_deep"),
    "nothing": (b"", "empty_body"),
    "white space": (b" \r\n\t", "empty_body"),
    "an array": (b"[" + GOOD + b"]", "not_an_object"),
    "a text": (b'"report"', "not_an_object"),
    "null": (b"null", "not_an_object"),
}


@pytest.mark.parametrize(("body", "code"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_that_cannot_be_read(shared: Gridgov, body: bytes, code: str) -> None:
    assert refusal(shared, body) == (400, code, [])
    assert shared.get("/v1/reports/r-edge")[0] == 404


def test_equal_keys_in_different_objects_are_no_duplicates(shared: Gridgov) -> None:
    extra = {"a": {"kind": 1}, "b": {"kind": 1}, "kind": ':"kind":'}
    assert shared.post(report("keys", extra=extra))[0] == 202


def posted_raw(gridgov: Gridgov, request: bytes, *, end: bool = False) -> Refusal:
    return refused(lambda wish: ask_raw(gridgov, request, headers=wish, end=end))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(POST + b"X-Forwarded-For: 203.0.113.7\r\n", 401, id="no key"),
        pytest.param(POST.replace(b"/v1/reports", b"/v2/reports"), 404, id="no such path"),
        pytest.param(POST.replace(b"POST", b"PUT"), 405, id="wrong method"),
        pytest.param(POST.replace(b"/json", b"/xml"), 415, id="wrong type"),
    ],
)
def test_a_refusal_leaves_the_connection_usable_or_says_that_it_ends(shared: Gridgov, head: bytes, status: int) -> None:
    """Head and body often come in two pieces; who answers in between and hangs up fails the client's next request."""
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as connection:
        connection.sendall(head + b"Host: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(GOOD))
        early, _, _ = select.select([connection], [], [], 0.5)  # may be answered before the body has come
        if not early:
            connection.sendall(GOOD)
        refused = read_answer(connection)
        assert refused.status == status
        if refused.headers.get("Connection") != "close":
            connection.sendall(GOOD if early else b"")
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert read_answer(connection).status == 200


def test_idle_connections_do_not_shut_others_out(shared: Gridgov) -> None:
    """Connection pools of a platform's many workers keep theirs open between two reports."""
    with ExitStack() as held:
        for _ in range(IDLE):
            idle = held.enter_context(closing(http.client.HTTPConnection("127.0.0.1", shared.port, timeout=20)))
            idle.request("GET", "/livez")
            assert idle.getresponse().read() == b'{"status":"live"}'


# ---- headers ----


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/x-ndjson", "application/json; charset=gbk"],
)
def test_a_content_type_we_do_not_take(shared: Gridgov, content_type: str) -> None:
    assert refusal(shared, GOOD, headers={"Content-Type": content_type}) == (415, "unsupported_media_type", [])


def test_a_body_without_a_content_type(shared: Gridgov) -> None:
    request = b"POST /v1/reports HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD
    assert posted_raw(shared, request) == (415, "unsupported_media_type", [])


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, identity"])
def test_a_body_in_an_encoding_we_do_not_take(shared: Gridgov, encoding: str) -> None:
    assert refusal(shared, GOOD, headers={"Content-Encoding": encoding}) == (415, "unsupported_encoding", [])


def test_spellings_of_the_content_type_that_mean_the_same(shared: Gridgov) -> None:
    for spelling in (
        "application/json;charset=UTF-8",
        "Application/JSON; charset=utf-8",
        'application/json; charset="utf8"',
    ):
        assert shared.post(report("typed"), **{"Content-Type": spelling})[0] == 202


def test_a_client_that_waits_for_a_go_ahead(shared: Gridgov) -> None:
    request = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD.replace(b"edge", b"wait")
    assert ask_raw(shared, request).status == 202


@pytest.mark.parametrize(
    ("accepted", "lang"),
    [
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("en", "en"),
        ("en-US", "en"),
        ("EN", "en"),
        ("fr, en;q=0.5", "en"),
        ("zh;q=0.1, en", "en"),
        ("zh-CN,en;q=0.5", "zh"),
        ("en-US,zh;q=0.5", "en"),
        ("en;q=0", "zh"),
        ("fr", "zh"),
        ("*", "zh"),
        ("", "zh"),
        (";;q=x,,", "zh"),
    ],
)
def test_the_language_the_client_would_rather_have(shared: Gridgov, accepted: str, lang: str) -> None:
    answer = ask(shared, "POST", "/v1/reports", {}, {"Accept-Language": accepted})
    assert answer.headers["Content-Language"] == lang
    assert in_language(answer.json["title"], lang)


def test_the_request_id_is_the_clients_or_ours(shared: Gridgov) -> None:
    def given(wanted: str, body: Any) -> str:
        return ask(shared, "POST", "/v1/reports", body, {"X-Request-Id": wanted}).headers["X-Request-Id"]

    for body in (report("request-id"), {}):
        assert given("trace-1.A_b", body) == "trace-1.A_b"
        ours = [given(unfit, body) for unfit in ("", "a b", "a/b", "x" * 65, "编号".encode().decode("latin-1"))]
        assert all(len(one) == 16 and int(one, 16) >= 0 for one in ours)
        assert len(set(ours)) == len(ours)


# ---- routes ----


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v2/reports"),
        ("GET", "/v1/reports/never-seen"),
        ("GET", "/v1/reports/"),
        ("GET", "/v1/reports/%00"),
        ("GET", "/v1/reports/r-edge%00"),
        ("GET", "/v1/reports/%ff"),
        ("GET", "/v1/reports/..%2f..%2fkeys.json"),
        ("GET", "/v1/reports/a/b"),
        ("GET", "/%00"),
        ("POST", "/v1/reports/"),
        ("POST", "/v1/reports/batch/"),
        ("POST", "/V1/reports"),
        ("DELETE", "/nothing/here"),
        ("GET", "/v1//catalogue"),
        ("POST", "/v1//reports"),
    ],
)
def test_what_is_not_there(shared: Gridgov, method: str, path: str) -> None:
    request = f"{method} {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode()
    assert posted_raw(shared, request) == (404, "not_found", [])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/reports", {"POST"}),
        ("PUT", "/v1/reports", {"POST"}),
        ("DELETE", "/v1/reports/r-edge", {"GET", "HEAD"}),
        ("POST", "/v1/reports/r-edge", {"GET", "HEAD"}),
        ("POST", "/v1/catalogue", {"GET", "HEAD"}),
        ("POST", "/livez", {"GET", "HEAD"}),
        ("BREW", "/v1/catalogue", {"GET", "HEAD"}),
        ("PATCH", "/v1/reports/batch", {"POST", "GET", "HEAD"}),  # GET: a report may be called "batch"
    ],
)
def test_a_method_that_is_not_for_this_path(shared: Gridgov, method: str, path: str, allowed: set[str]) -> None:
    assert refusal(shared, b"", path=path, method=method) == (405, "method_not_allowed", [])
    told = ask(shared, method, path, b"").headers["Allow"]
    assert set(told.split(", ")) - {"OPTIONS"} == allowed


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/catalogue", 200), ("/v1/reports/never-seen", 404), ("/v1/reports", 405), ("/livez", 200)]
)
def test_head_tells_what_get_would_without_the_body(shared: Gridgov, path: str, status: int) -> None:
    head, get = ask(shared, "HEAD", path), ask(shared, "GET", path)
    assert (head.status, get.status, head.data) == (status, status, b"")
    for name in ("Content-Type", "Content-Length", "Allow", "Content-Language"):
        assert head.headers.get(name) == get.headers.get(name)


def test_a_report_may_be_called_batch(shared: Gridgov) -> None:
    status, _, headers = shared.post(report("any", report_id="batch"))
    assert (status, headers["Location"]) == (202, "/v1/reports/batch")
    assert shared.get("/v1/reports/batch")[1]["report_id"] == "batch"


# ---- metrics ----


def requests(gridgov: Gridgov) -> dict[str, float]:
    return {name: n for name, n in gridgov.metrics().items() if name.startswith("gridgov_http_requests_total")}


def series(method: str, route: str, status: int) -> str:
    return f'gridgov_http_requests_total{{method="{method}",route="{route}",status="{status}"}}'


def test_paths_and_ids_are_no_metric_series(shared: Gridgov) -> None:
    before = requests(shared)
    asked = [("GET", "/nope-1"), ("GET", "/nope-2?q=nope"), ("POST", "/v1/nope/3"), ("NOPE", "/nope-4")]
    asked += [("GET", "/v1/reports/nope-5"), ("GET", "/v1/reports/nope-6")]
    assert [ask(shared, method, path).status for method, path in asked] == [404] * 6
    after = requests(shared)
    assert {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)} == {
        series("GET", "unmatched", 404): 2,
        series("POST", "unmatched", 404): 1,
        series("other", "unmatched", 404): 1,
        series("GET", "/v1/reports/<report_id>", 404): 2,
    }
    assert not any("nope" in name.lower() for name in shared.metrics())


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (b"{", {"malformed_json"}),
        (
            orjson.dumps(report("counted", colour="red", kind="both", stage=7)),
            {"unknown_field", "not_allowed", "wrong_type"},
        ),
    ],
    ids=["unreadable", "invalid"],
)
def test_refusals_are_counted_by_reason(shared: Gridgov, body: bytes, reasons: set[str]) -> None:
    before = shared.metrics()
    ask(shared, "POST", "/v1/reports", body)
    after = shared.metrics()
    risen = {name: after[name] - before[name] for name in after if name.startswith("gridgov_report_rejections_total")}
    wanted = {f'gridgov_report_rejections_total{{reason="{reason}"}}': 1 for reason in reasons}
    assert {name: n for name, n in risen.items() if n} == wanted


def test_nothing_stays_in_progress_whatever_came(shared: Gridgov) -> None:
    broken: list[Answer] = [
        ask_raw(shared, POST + b"Content-Length: 9\r\n\r\n{", end=True),
        ask_raw(shared, POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", end=True),
        ask(shared, "GET", "/v1//catalogue"),
    ]
    assert all(answer.status >= 300 for answer in broken)
    until(lambda: shared.metrics()["gridgov_http_requests_in_progress"] == 0, "no request is in progress")
