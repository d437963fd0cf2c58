"""The page at /docs as a browser shows it that can reach nothing but gridgov."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.gridgov import Gridgov
from tests.system.chromium import Visit, visit


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """Only the web process: the page needs no Kafka."""
    gridgov = Gridgov(tmp_path_factory.mktemp("gridgov") / "var", "127.0.0.1:9")
    try:
        gridgov.start("web")
        yield gridgov.ready()
    finally:
        gridgov.stop()


@pytest.fixture(scope="module")
def page(web: Gridgov, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """/docs, opened once for all tests."""
    return visit(f"{web.url}/docs", tmp_path_factory.mktemp("chromium"))


def test_every_operation_is_shown(web: Gridgov, page: Visit) -> None:
    described = [path for path, methods in web.get("/openapi.json")[1]["paths"].items() for _ in methods]
    assert len(described) >= 8
    assert sorted(re.findall(r'data-path="([^"]+)"', page.dom)) == sorted(described)


def test_the_promise_is_shown_in_both_languages(page: Visit) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", page.dom))
    assert "202 Accepted means: the report is in the journal on this machine's disk, flushed" in text
    assert "202 Accepted 表示：该上报已写入本机磁盘上的日志库并已刷盘" in text


def test_nothing_went_wrong_on_the_page(page: Visit) -> None:
    assert page.complaints == []
    assert 'class="errors-wrapper' not in page.dom


def test_nothing_is_loaded_from_elsewhere(web: Gridgov, page: Visit) -> None:
    files = ("swagger-ui.css", "docs.css", "swagger-ui-bundle.js", "docs.js")
    assert page.asked == {f"{web.url}/openapi.json", *(f"{web.url}/docs/assets/{name}" for name in files)}


def test_nothing_is_asked_for_that_is_not_there(web: Gridgov, page: Visit) -> None:
    answered = {name for name in web.metrics() if name.startswith("gridgov_http_requests_total")}
    assert any('route="/docs"' in name for name in answered)
    assert [name for name in answered if 'status="404"' in name] == []


class _Leaky(BaseHTTPRequestHandler):
    """A page that asks elsewhere for a picture, and under a policy like ours for another."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if self.path == "/strict":
            self.send_header("Content-Security-Policy", "default-src 'self'")
        self.end_headers()
        self.wfile.write(b'<img src="http://elsewhere.example/x.png">')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_these_tests_would_notice(tmp_path: Path) -> None:
    """The control: a page that loads from elsewhere is seen to, and one that may not is complained about."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Leaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        leaky, strict = visit(url, tmp_path / "leaky"), visit(f"{url}/strict", tmp_path / "strict")
    finally:
        server.shutdown()
        server.server_close()
    assert "http://elsewhere.example/x.png" in leaky.asked
    assert "http://elsewhere.example/x.png" not in strict.asked
    assert any("Content Security Policy" in line for line in strict.complaints)
