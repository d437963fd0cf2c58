"""The demo's server hands out its page and two ways to query, and nothing else of the machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import pytest
import urllib3

from deploy.demo.server import Server, State

HTTP = urllib3.PoolManager(retries=False)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def url() -> Iterator[str]:
    with Server(0, State(NOBODY, 60.0, lambda: "npm is not there")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "path", ["/bundle/../package.json", "/bundle/%2e%2e/package.json", "/runbooks/..", "/etc/passwd"]
)
def test_no_file_of_the_machine_is_served(url: str, path: str) -> None:
    with closing(HTTPConnection(url.removeprefix("http://"))) as raw:  # others tidy paths up before they send them
        raw.request("GET", path)
        assert raw.getresponse().status == 404


@pytest.mark.parametrize("path", ["/prometheus/api/v1/admin/tsdb/delete_series", "/prometheus/-/quit", "/api/v1/query"])
def test_nothing_but_queries_reaches_prometheus(url: str, path: str) -> None:
    assert HTTP.request("POST", f"{url}{path}", body=b"").status == 404


def test_a_prometheus_that_is_not_there_is_told(url: str) -> None:
    answer = HTTP.request("POST", f"{url}/prometheus/api/v1/query", body=b"query=up")

    assert (answer.status, answer.json()["status"]) == (502, "error")


@pytest.mark.parametrize(("language", "uid"), [("zh", "gridgov-wall"), ("en-GB,en", "gridgov-wall-en")])
def test_it_begins_with_the_wall_in_the_language_of_the_browser(url: str, language: str, uid: str) -> None:
    answer = HTTP.request("GET", url, headers={"Accept-Language": language}, redirect=False)

    assert (answer.status, answer.headers["Location"]) == (302, f"/d/{uid}")


def test_who_was_told_what_can_be_asked(url: str) -> None:
    alerts = [{"labels": {"alertname": "IncidentOverdue"}, "status": "firing"}] * 3

    assert HTTP.request("POST", f"{url}/told/dispatch-desk", json={"alerts": alerts}).status == 200

    [told] = HTTP.request("GET", f"{url}/told").json()
    assert (told["receiver"], told["alert"], told["status"], told["number"]) == (
        "dispatch-desk",
        "IncidentOverdue",
        "firing",
        3,
    )


def test_alerts_find_their_runbooks(url: str) -> None:
    answer = HTTP.request("GET", f"{url}/runbooks/TargetDown.md")

    assert answer.status == 200
    assert b"TargetDown" in answer.data
