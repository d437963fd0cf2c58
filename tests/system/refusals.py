"""What all refusals have in common, checked on each one; a test then only says status, code and pointers."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
import urllib3

from tests.gridgov import Gridgov

CHINESE = re.compile("[\u4e00-\u9fff]")
PLATFORM = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
ENGLISH = {"Accept-Language": "en-GB,en;q=0.9,zh;q=0.1"}
PROBLEM = {"type", "title", "status", "code", "request_id", "retryable", "errors"}

Refusal = tuple[int, str, list[tuple[str, str]]]
"""Status, code, and (pointer, code) of each error in its order."""


class Answer(NamedTuple):
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.data)


def ask(gridgov: Gridgov, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Any request; a body that is not bytes goes as JSON, a POST is `application/json` unless `headers` say else."""
    data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    typed = {"Content-Type": "application/json"} if method == "POST" else {}
    answer = gridgov.http.request(method, gridgov.url + path, body=data, headers={**typed, **(headers or {})})
    return Answer(answer.status, answer.headers, answer.data)


def ask_raw(gridgov: Gridgov, request: bytes, *, headers: Mapping[str, str] | None = None, end: bool = False) -> Answer:
    """Bytes as they are, after a request line and Host; `end`: our side of the connection is closed behind them."""
    line, _, rest = request.partition(b"\r\n")
    more = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **(headers or {})}.items())
    with socket.create_connection(("127.0.0.1", gridgov.port), timeout=10) as connection:
        connection.sendall(line + b"\r\n" + more.encode() + rest)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """The next answer on a connection; not to a HEAD."""
    with http.client.HTTPResponse(connection) as answer:
        answer.begin()
        return Answer(answer.status, urllib3.HTTPHeaderDict(answer.getheaders()), answer.read())


def refusal(
    gridgov: Gridgov,
    body: Any = None,
    *,
    path: str = "/v1/reports",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    """What a request is refused with, in every language."""
    return refused(lambda wish: ask(gridgov, method, path, body, {**(headers or {}), **wish}))


def refused(asked: Callable[[Mapping[str, str]], Answer]) -> Refusal:
    """Ask without a wish, in Chinese and in English: one problem in two languages, Chinese by default."""
    by_default, zh, en = (asked(wish) for wish in ({}, PLATFORM, ENGLISH))
    problem = _problem(by_default, "zh")
    assert _problem(zh, "zh") == problem, "Chinese is the default"
    assert _without_texts(_problem(en, "en")) == _without_texts(problem), "only the texts are translated"
    return problem["status"], problem["code"], pointers(problem["errors"])


def pointers(errors: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Where and what, without the texts."""
    return [(error["pointer"], error["code"]) for error in errors]


def in_language(text: str, lang: str) -> bool:
    """Whether a text of ours is in `lang`; Chinese texts may name a field, English ones are plain ASCII."""
    return bool(CHINESE.search(text)) if lang == "zh" else bool(text) and text.isascii()


def _problem(answer: Answer, lang: str) -> dict[str, Any]:
    """The document without its request id, after everything that RFC 9457 and our contract say of any problem."""
    problem: dict[str, Any] = answer.json
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Content-Language"] == lang
    assert "Accept-Language" in answer.headers["Vary"]
    assert problem.keys() == PROBLEM
    assert problem["status"] == answer.status
    assert problem["type"] == f"urn:gridgov:problem:{problem['code']}"
    assert problem["retryable"] is (answer.status in {429, 500, 503} or problem["code"] == "truncated_body")
    assert answer.headers["X-Request-Id"] == problem.pop("request_id")
    for text in (problem["title"], *(error["message"] for error in problem["errors"])):
        assert in_language(text, lang), f"{text!r} is not {lang}"
    assert all(error.keys() == {"pointer", "code", "message"} for error in problem["errors"])
    return problem


def _without_texts(problem: Mapping[str, Any]) -> dict[str, Any]:
    return {**problem, "title": "", "errors": pointers(problem["errors"])}
