"""What the browser talks to: the page, its dashboards, and from the same origin Prometheus' two ways to query.

It also takes Alertmanager's webhooks, so that one sees who would have been told what. For this machine only.
"""

from __future__ import annotations

import json
import mimetypes
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy.demo.boards import first, language_of, live
from deploy.demo.bundle import BUNDLE, is_current

QUERIES = ("/prometheus/api/v1/query", "/prometheus/api/v1/query_range")
RUNBOOKS = Path(__file__).parents[1] / "runbooks"
MOST_BYTES = 1 << 20  # of a body
MOST_TOLD = 20


@dataclass
class State:
    """What the server knows. `trouble`: what to say of a page that cannot be built."""

    prometheus: str
    speed: float
    trouble: Callable[[], str]
    told: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_TOLD))


class Server(ThreadingHTTPServer):
    """On loopback; a thread for each connection."""

    daemon_threads = True

    def __init__(self, port: int, state: State) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.state = state

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is nobody's error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        match path.strip("/").split("/"):
            case [""]:
                english = self.headers.get("Accept-Language", "").startswith("en")
                self._send(302, b"", "text/plain", Location=f"/d/{first('en' if english else 'zh')}")
            case ["d", uid, *_]:
                self._page(uid)
            case ["boards", uid]:
                self._json(live(uid, self.server.state.speed))
            case ["told"]:
                self._json(list(self.server.state.told))
            case ["bundle", *rest]:
                self._file(BUNDLE, "/".join(rest))
            case ["runbooks", name]:
                self._file(RUNBOOKS, name)
            case _:
                self._missing()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > MOST_BYTES:
            self._send(413, b"", "text/plain", Connection="close")
            return
        body = self.rfile.read(length)
        path = urllib.parse.urlsplit(self.path).path
        if path in QUERIES:
            self._ask(path.removeprefix("/prometheus"), body)
        elif path.startswith("/told/"):
            self._note(path.removeprefix("/told/"), json.loads(body))
        else:
            self._missing()

    def _page(self, uid: str) -> None:
        if (language := language_of(uid)) is None:
            self._missing()
            return
        page = _page(language) if is_current() else _wait(language, self.server.state.trouble())
        self._send(200, page.encode(), "text/html; charset=utf-8")

    def _ask(self, path: str, body: bytes) -> None:
        """Hand a query on to Prometheus, and its answer back."""
        question = urllib.request.Request(f"{self.server.state.prometheus}{path}", body)
        try:
            with urllib.request.urlopen(question, timeout=30) as answer:
                status, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:  # what it says of a query that is wrong
            status, data = error.code, error.read()
        except OSError as error:
            status, data = 502, json.dumps({"status": "error", "error": str(error)}).encode()
        self._send(status, data, "application/json")

    def _note(self, receiver: str, told: dict[str, Any]) -> None:
        """Remember whom Alertmanager has told what."""
        alerts = Counter((one["labels"]["alertname"], one["status"]) for one in told["alerts"])
        for (alert, status), number in alerts.items():
            one = {"at": time.time(), "receiver": receiver, "alert": alert, "status": status, "number": number}
            self.server.state.told.append(one)
        self._send(200, b"", "text/plain")

    def _file(self, directory: Path, name: str) -> None:
        path = (directory / urllib.parse.unquote(name)).resolve()
        if not (path.is_relative_to(directory.resolve()) and path.is_file()):  # a checkout may lie behind a link
            self._missing()
            return
        kind = "text/plain; charset=utf-8" if path.suffix == ".md" else mimetypes.guess_type(path.name)[0]
        self._send(200, path.read_bytes(), kind or "application/octet-stream")

    def _json(self, value: object) -> None:
        if value is None:
            self._missing()
        else:
            self._send(200, json.dumps(value, ensure_ascii=False).encode(), "application/json")

    def _missing(self) -> None:
        self._send(404, b"nothing here\n", "text/plain")

    def _send(self, status: int, data: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page asks twenty times a second."""


def _page(language: str) -> str:
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>gridgov</title>'
        '<link rel="stylesheet" href="/bundle/live.css"><body style="margin:0"><div id="root"></div>'
        '<script>window.__grafana_public_path__ = "/bundle/public/"</script>'
        '<script src="/bundle/live.js"></script></body></html>'
    )


def _wait(language: str, trouble: str) -> str:
    """Instead of the page, while there is none."""
    zh, en = "页面正在准备（约半分钟），随后自动显示", "the page is being built (half a minute) and will show by itself"
    if trouble:
        zh, en = "页面无法生成，其余一切照常", "the page could not be built; all else runs"
    said = zh if language == "zh" else en
    return (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        f"<title>gridgov</title><body><p>{said}</p><pre>{trouble}</pre></body></html>"
    )
