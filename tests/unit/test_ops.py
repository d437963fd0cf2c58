"""What the metrics are written in, for whoever asks, however oddly."""

from __future__ import annotations

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.ops import Health, Readiness, blueprint

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
OPENMETRICS, TEXT = "application/openmetrics-text", "text/plain"
WISHES = {
    PROMETHEUS: OPENMETRICS,
    "application/openmetrics-text": OPENMETRICS,
    'application/openmetrics-text;version="1.0.0"': OPENMETRICS,
    "application/openmetrics-text; version=0.0.1": OPENMETRICS,
    "application/openmetrics-text;version=x.y": OPENMETRICS,
    "Application/OpenMetrics-Text": OPENMETRICS,
    "application/openmetrics-text;q=0": TEXT,
    "text/plain,application/openmetrics-text;q=0.9": TEXT,
    "text/plain;version=1.0.0;escaping=nonsense": TEXT,
    "text/plain;version=": TEXT,
    "*/*": TEXT,
    "text/html": TEXT,
    "": TEXT,
    ';;,=,";': TEXT,
    "application/openmetrics-text;q=much": TEXT,
    "x" * 10_000: TEXT,
}


@pytest.mark.parametrize("accept", WISHES, ids=range(len(WISHES)))
def test_whatever_is_asked_for_the_metrics_are_told(accept: str) -> None:
    registry = CollectorRegistry()
    Gauge("told", "Whether it was.", registry=registry).set(1)
    app = Flask("ops")
    app.register_blueprint(blueprint(registry, alive=lambda: True, ready=lambda: Readiness(Health.READY)))

    answer = app.test_client().get("/metrics", headers={"Accept": accept})

    assert (answer.status_code, answer.mimetype) == (200, WISHES[accept])
    parse = parse_openmetrics if answer.mimetype == OPENMETRICS else parse_text
    assert [family.name for family in parse(answer.get_data(as_text=True))] == ["told"]
