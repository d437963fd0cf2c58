"""Time that runs faster, in what Prometheus and the dashboards are given: every duration, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.demo.boards import LANGUAGES, boards, faster, first, language_of, live
from deploy.demo.faster import DURATION, scaled, shortened, with_durations

EVERY = [(language, name) for language in LANGUAGES for name in boards(language)]


@pytest.mark.parametrize(
    ("expr", "becomes"),
    [
        ("rate(a_total[15m])", "rate(a_total[15s])"),
        ("increase(gridgov:x:increase1h[1h] offset 1d)", "increase(gridgov:x:increase1h[60s] offset 1440s)"),
        ('a{window="1h"} > 60 and b[28d:5m]', 'a{window="1h"} > 60 and b[40320s:5s]'),
        ("predict_linear(a[30m], 4 * 3600)", "predict_linear(a[30s], 4 * 3600)"),
    ],
)
def test_ranges_steps_and_offsets_are_shorter_and_all_else_stays(expr: str, becomes: str) -> None:
    assert with_durations(expr, 1 / 60) == becomes


def test_a_rule_file_keeps_its_numbers_and_labels() -> None:
    given = {"groups": [{"interval": "2m", "rules": [{"expr": "a[5m] > 5", "for": "1m", "labels": {"window": "1h"}}]}]}

    assert shortened(given, 60) == {
        "groups": [{"interval": "2s", "rules": [{"expr": "a[5s] > 5", "for": "1s", "labels": {"window": "1h"}}]}]
    }


def test_what_is_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="1h30m"):
        scaled("1h30m", 2)


def durations(board: dict[str, Any]) -> list[float]:
    """Every duration between brackets in a dashboard, in seconds."""
    found = re.findall(r"[\[:](\d+(?:ms|[smhdw]))\b", json.dumps([panel.get("targets") for panel in board["panels"]]))
    assert all(DURATION.fullmatch(one) for one in found)
    return [float(scaled(one, 1000).removesuffix("s")) / 1000 for one in found]


@pytest.mark.parametrize(("language", "name"), EVERY)
def test_a_faster_dashboard_has_every_window_shorter(language: str, name: str) -> None:
    board = boards(language)[name]
    changed = faster(board, 60)

    assert durations(changed) == [one / 60 for one in durations(board)]
    assert (board["time"]["from"], changed["time"]["from"]) == ("now-24h", "now-1440s")
    assert {panel["interval"] for panel in changed["panels"] if "interval" in panel} <= {"60s"}


@pytest.mark.parametrize(("language", "name"), EVERY)
def test_the_live_page_gets_queries_with_nothing_left_to_choose(language: str, name: str) -> None:
    uid = boards(language)[name]["uid"]
    setting = live(uid, 60)

    assert setting is not None
    assert language_of(uid) == language
    assert (setting["range"], setting["boards"][0]["uid"]) == (1440, first(language))
    exprs = [target["expr"] for panel in setting["board"]["panels"] for target in panel.get("targets", [])]
    assert [expr for expr in exprs if "$" in expr] == []
    assert {panel["interval"] for panel in setting["board"]["panels"] if "interval" in panel} <= {60}


def test_the_window_that_one_chooses_is_shorter_too() -> None:
    [window] = [one for one in faster(boards("en")["duty-wall"], 60)["templating"]["list"] if one["name"] == "window"]

    assert (window["current"]["value"], window["query"]) == (
        "1440s",
        "24 hours : 1440s, 7 days : 10080s, 28 days : 40320s",
    )


def test_no_other_dashboard_is_served() -> None:
    assert (live("gridgov-nothing", 60), language_of("gridgov-nothing")) == (None, None)
