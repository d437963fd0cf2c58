"""Every query of every dashboard, asked of a real Prometheus that holds an invented day: it answers, and rightly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.day import END, HOUR, START, Day, invented
from tests.integration.exposition import scraped
from tests.integration.figures import OUTAGE, Exactly, Quantile, Rows
from tests.integration.panel_figures import FIGURES
from tests.prometheus import Labels, Prometheus, program

DASHBOARDS = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "en"
VARIABLES = {"${window}": "24h"}
AT_ANOTHER_TIME = {"Firing alerts": OUTAGE}  # at the day's end none is firing
HELPERS = {"place"}  # a label that only joins two others


class Asked(NamedTuple):
    """One query of one panel."""

    title: str
    ref: str
    expr: str
    is_instant: bool
    step: float


def every_query() -> Iterator[Asked]:
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"]
                for variable, value in VARIABLES.items():
                    expr = expr.replace(variable, value)
                step = HOUR if panel.get("interval") == "1h" else 300
                yield Asked(panel["title"], target["refId"], expr, target["instant"], step)


QUERIES = list(every_query())
each_query = pytest.mark.parametrize("asked", QUERIES, ids=[f"{one.title}: {one.ref}" for one in QUERIES])


@pytest.fixture(scope="module")
def day() -> Day:
    return invented()


@pytest.fixture(scope="module")
def prometheus(day: Day, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program("prometheus")  # before the work, not after it
    directory = tmp_path_factory.mktemp("day")
    scraped(day, directory / "service").write(directory / "day.txt")
    with Prometheus(directory / "prometheus", directory / "day.txt") as running:
        yield running


def test_the_day_is_eventful(day: Day) -> None:
    """Otherwise most panels would be compared with 0."""
    for now in (OUTAGE, END):
        late = {(case.kind, standard) for case, standard in day.overdue(now)}
        assert late == {("incident", "completion"), ("repair", "arrival"), ("repair", "completion")}
    assert {won for _, _, won in day.outcomes(END)} == {"met", "breached"}


def test_every_query_has_its_figure() -> None:
    assert {(one.title, one.ref) for one in QUERIES} == set(FIGURES)
    assert len(QUERIES) == len(FIGURES)


@each_query
def test_data(asked: Asked, prometheus: Prometheus) -> None:
    """It shows something: now, or somewhere in the day for what is drawn over time."""
    if asked.is_instant:
        assert prometheus.now(asked.expr, AT_ANOTHER_TIME.get(asked.title, END))
    else:
        assert prometheus.over(asked.expr, START, END, asked.step)


@each_query
def test_figure(asked: Asked, prometheus: Prometheus, day: Day) -> None:
    figure = FIGURES[asked.title, asked.ref]
    for at in figure.at:
        rows = {values(labels): value for labels, value in prometheus.now(asked.expr, at).items()}
        when = f"at {(at - START) / HOUR:.2f} h"
        if isinstance(figure, Exactly):
            expected = figure.rows(day, at)
            wanted: Rows = {(): float(expected)} if isinstance(expected, int | float) else expected
            allowed = 0.02 if figure.near else 1e-9
            assert without_zeros(rows) == pytest.approx(without_zeros(wanted), rel=allowed, abs=allowed), when
        elif isinstance(figure, Quantile):
            observed = {labels: seconds for labels, seconds in figure.observed(day, at).items() if seconds}
            assert rows.keys() == observed.keys(), when
            for labels, seconds in observed.items():
                lower, upper = figure.bucket(seconds)
                assert lower <= rows[labels] <= upper, (when, labels, sorted(seconds))
        else:
            assert rows, when
            assert all(figure.least <= value <= figure.most for value in rows.values()), (when, rows)


def test_what_is_gone_is_not_shown_as_if_it_were_there(prometheus: Prometheus) -> None:
    """Ten minutes after the last scrape every panel about now is empty, not standing at its last value."""
    standing = [one.title for one in QUERIES if one.is_instant and "28d" not in one.expr]
    empty = [one.title for one in QUERIES if one.is_instant and not prometheus.now(one.expr, END + 600)]
    assert set(standing) <= set(empty)


def values(labels: Labels) -> tuple[str, ...]:
    return tuple(value for name, value in labels if name not in HELPERS)


def without_zeros(rows: Rows) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, value in rows.items() if value or not labels}
