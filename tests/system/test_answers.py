"""Every byte of every answer, whoever gives it: a problem document or nothing, and no word of what it is made with."""

from __future__ import annotations

import gzip
import re
import socket
import zlib

import orjson
import pytest

from tests.gridgov import Gridgov, peak_memory, report

LOCAL = b" HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/reports" + LOCAL + b"Content-Type: application/json\r\n"
RAW = {
    "TLS": (b"\x16\x03\x01\x00\xa5\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "no method": (b"G@T /" + LOCAL + b"\r\n", 400),
    "an endless path": (b"GET /" + b"a" * 70_000 + LOCAL + b"\r\n", 414),
    "headers without end": (b"GET /" + LOCAL + b"".join(b"A%d: b\r\n" % n for n in range(300)) + b"\r\n", 431),
    "an endless header": (b"GET /" + LOCAL + b"A: " + b"a" * 900_000 + b"\r\n\r\n", 431),
    "a folded header": (b"GET /livez" + LOCAL + b"A: b\r\n c\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "a length of letters": (POST + b"Content-Length: abc\r\n\r\n{}", 400),
    "another version": (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
    "no chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
    "no such path": (b"GET /nix" + LOCAL + b"\r\n", 404),
    "no such method": (b"TRACE /v1/reports" + LOCAL + b"\r\n", 405),
    "asterisk": (b"OPTIONS *" + LOCAL + b"\r\n", 404),
    "a tunnel": (b"CONNECT a:1" + LOCAL + b"\r\n", 404),
    "a page that is none": (b"GET /docs/assets/../../x" + LOCAL + b"\r\n", 404),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
}
BANNER = re.compile(rb"granian|hyper|werkzeug|flask|python|<", re.IGNORECASE)
SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


def answered(port: int, request: bytes) -> bytes:
    """All that comes until the connection ends, or the body is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        found = b""
        while not _complete(found):
            if not (piece := connection.recv(65536)):
                break
            found += piece
    return found


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


@pytest.mark.parametrize(("request_", "status"), RAW.values(), ids=RAW)
def test_what_is_answered_to_what_is_wrong(web: Gridgov, request_: bytes, status: int) -> None:
    head, _, body = answered(web.port, request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert BANNER.search(head + body) is None
    headers = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:])
    if body:
        assert headers["content-type"] == "application/problem+json"
        assert orjson.loads(body)["status"] == status
        assert {name: value.lower() for name, value in SAFE.items()}.items() <= headers.items()
    else:
        assert headers["content-length"] == "0"


def test_the_metrics_port_says_no_more(web: Gridgov) -> None:
    for name, (request, _) in RAW.items():
        head, _, body = answered(web.web_metrics, request).partition(b"\r\n\r\n")
        assert BANNER.search(head) is None, name
        assert body == b"" or orjson.loads(body)["status"] in ("live", "ready", "degraded"), name
    assert "code 400" not in web.log  # what is no HTTP stands in no log


@pytest.mark.parametrize("path", ["/livez", "/docs", "/openapi.json", "/nix", "/v1/catalogue", "/metrics"])
def test_each_answer_protects_who_gets_it(web: Gridgov, path: str) -> None:
    headers = web.http.request("GET", f"{web.url}{path}").headers
    for name, value in SAFE.items():
        assert headers.getlist(name) == [value]
    assert len(headers.getlist("Cache-Control")) == 1
    assert headers["Server"] == "gridgov"


# ---- gzip ----

GZIP = {"Content_Encoding": "gzip"}


def test_a_body_may_come_as_gzip(web: Gridgov) -> None:
    one = gzip.compress(orjson.dumps(report("gz-1")))
    assert web.post(one, **GZIP)[0] == 202
    assert web.post(report("gz-1"))[1]["duplicate"] is True
    assert web.post(one, Content_Encoding="X-GZIP")[1]["duplicate"] is True
    lines = gzip.compress(b"\n".join(orjson.dumps(report(f"gz-{number}")) for number in range(500)))
    status, answer, _ = web.post(lines, "/v1/reports/batch", Content_Type="application/x-ndjson", **GZIP)
    assert (status, answer["accepted"], answer["duplicates"]) == (202, 499, 1)
    refused = web.post(one, Content_Encoding="br")
    assert (refused[0], refused[1]["code"], refused[2]["Accept-Encoding"]) == (415, "unsupported_encoding", "gzip")
    for wrong, code in ((b"{}", "bad_gzip"), (one[:-4], "truncated_body"), (one + b"xy", "bad_gzip")):
        assert web.post(wrong, **GZIP)[1]["code"] == code


def test_bombs_are_refused_with_flat_memory(web: Gridgov) -> None:
    answers, grown = bombed(web, 100)
    assert answers == {(413, "body_too_large")}
    assert grown < 32 << 20


def bombed(web: Gridgov, times: int, **headers: str) -> tuple[set[tuple[int, str]], int]:
    """What is answered to bombs of 240 MiB, alone and as a batch of eight; by how many bytes memory ever grew."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(240)) + packer.flush()
    assert len(bomb) < 256 * 1024 < 240 << 20
    web.post(gzip.compress(bytes(1 << 18)), **GZIP, **headers)
    worker = web.child("worker")
    before = peak_memory(worker)
    told = [web.post(bomb, **GZIP, **headers) for _ in range(times)]
    told += [web.post(bomb * 8, "/v1/reports/batch", **GZIP, **headers) for _ in range(times)]
    return {(status, answer["code"]) for status, answer, _ in told}, peak_memory(worker) - before
