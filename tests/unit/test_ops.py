"""What the metrics are written in, for whoever asks, however oddly."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.ops import ROUTES, Readiness, app, blueprint

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
OPENMETRICS, TEXT = "application/openmetrics-text", "text/plain"
WISHES = {
    PROMETHEUS: OPENMETRICS,
    "application/openmetrics-text": OPENMETRICS,
    'application/openmetrics-text;version="1.0.0"': OPENMETRICS,
    "application/openmetrics-text; version=0.0.1": TEXT,
    "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1": TEXT,  # of 2018 to 2022
    "application/openmetrics-text;version=2.0.0": TEXT,
    "application/openmetrics-text;version=x.y": TEXT,
    "application/openmetrics-text;escaping=nonsense": OPENMETRICS,
    "Application/OpenMetrics-Text": OPENMETRICS,
    "application/openmetrics-text;q=0": TEXT,
    "application/openmetrics-text, */*": OPENMETRICS,
    "application/*": TEXT,
    "text/plain,application/openmetrics-text;q=0.9": TEXT,
    "text/plain,application/openmetrics-text;version=1.0.0;q=0.1": TEXT,
    "text/plain;version=0.0.4;q=0.2,application/openmetrics-text;q=0.3": OPENMETRICS,
    "text/plain;version=1.0.0;escaping=nonsense": TEXT,
    "text/plain;version=": TEXT,
    "*/*": TEXT,
    "text/html": TEXT,
    "": TEXT,
    ';;,=,";': TEXT,
    "application/openmetrics-text;q=much": TEXT,
    "x" * 10_000: TEXT,
}


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    """Of a process that tells one thing, and whose readiness cannot be found out."""
    registry = CollectorRegistry()
    Gauge("told", "Whether it was.", registry=registry).set(1)

    def broken() -> Readiness:
        raise RuntimeError("a bug")

    return app(blueprint(registry, alive=lambda: True, ready=broken)).test_client()


@pytest.mark.parametrize("accept", WISHES, ids=range(len(WISHES)))
def test_whatever_is_asked_for_the_metrics_are_told(client: FlaskClient, accept: str) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})

    assert (answer.status_code, answer.mimetype) == (200, WISHES[accept])
    parse = parse_openmetrics if answer.mimetype == OPENMETRICS else parse_text
    assert [family.name for family in parse(answer.get_data(as_text=True))] == ["told"]


PIECES = [OPENMETRICS, TEXT, "*/*", "version", "q", "0.5", "1.0.0", "utf-8", *";,=/*\"\\' \t\xa0\xff"]


@given(st.lists(st.sampled_from(PIECES) | st.characters(min_codepoint=32, max_codepoint=255)).map("".join))
def test_no_accept_breaks_them(client: FlaskClient, accept: str) -> None:
    answer = client.get("/metrics", environ_overrides={"HTTP_ACCEPT": accept})

    assert (answer.status_code, answer.mimetype in (OPENMETRICS, TEXT)) == (200, True)


@pytest.mark.parametrize("query", ["name[]=told", "name[]=another", "name[]=%ff", "%", "&&=", "name[]=" + "x" * 10_000])
def test_all_is_told_whatever_the_query(client: FlaskClient, query: str) -> None:
    assert client.get(f"/metrics?{query}").get_data() == client.get("/metrics").get_data()


def test_head_tells_how_much_there_is_and_nothing_else(client: FlaskClient) -> None:
    got, head = client.get("/metrics"), client.head("/metrics")

    assert (head.status_code, head.get_data(), head.headers) == (200, b"", got.headers)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *((method, path, 405) for method in ("POST", "PUT", "DELETE", "TRACE", "BREW") for path in ROUTES),
        *(("GET", path, 404) for path in ("/", "/metrics/", "//metrics", "/static/x", "/文")),
        ("GET", "/readyz", 500),
    ],
)
def test_no_page_where_no_browser_comes(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open("http://127.0.0.1" + path, method=method)

    assert (answer.status_code, answer.get_data(), answer.mimetype) == (status, b"", TEXT)
    allowed = {one.strip() for one in answer.headers.get("Allow", "").split(",") if one}
    assert allowed == ({"GET", "HEAD", "OPTIONS"} if status == 405 else set())
