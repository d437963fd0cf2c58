"""The dashboards of `deploy/grafana` for time that runs faster, and as the live page asks for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from deploy.demo.faster import DURATION, scaled, seconds, with_durations

DASHBOARDS = Path(__file__).parents[1] / "grafana" / "dashboards"
LANGUAGES = ("zh", "en")
FIRST = "duty-wall"
REFRESH = "5s"  # the least that a Grafana lets
POINTS = 360  # of a line, from one edge of a panel to the other
Board = dict[str, Any]


def boards(language: str) -> dict[str, Board]:
    """Every dashboard in that language, by the name of its file."""
    files = sorted((DASHBOARDS / language).glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def faster(board: Board, speed: float) -> Board:
    """The same dashboard with every window, step and range divided by `speed`; what it says in words stays."""
    changed: Board = _faster(board, 1 / speed)
    start = changed["time"]["from"].removeprefix("now-")
    changed |= {"refresh": REFRESH, "time": changed["time"] | {"from": f"now-{scaled(start, 1 / speed)}"}}
    return changed


def _faster(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_faster(one, factor) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _changed(key, one, factor) for key, one in value.items()}


def _changed(key: str, value: Any, factor: float) -> Any:
    """`expr` and `interval` of panels; `query` and `value` of the variable that chooses a window."""
    if key == "expr":
        return with_durations(value, factor)
    if key in {"interval", "value"} and isinstance(value, str) and DURATION.fullmatch(value):
        return scaled(value, factor)
    if key == "query" and isinstance(value, str):
        return re.sub(r"(?<= : )\w+", lambda window: scaled(window[0], factor), value)
    return _faster(value, factor)


def chosen(board: Board) -> Board:
    """With each variable replaced by what is chosen at first."""
    text = json.dumps(board)
    for variable in board["templating"]["list"]:
        if current := variable["current"]:
            text = text.replace(f"${{{variable['name']}:text}}", current["text"])
            text = text.replace(f"${{{variable['name']}}}", current["value"])
    replaced: Board = json.loads(text)
    return replaced


def language_of(uid: str) -> str | None:
    """The language of the dashboard with that uid; None: there is none."""
    return next((one for one in LANGUAGES if uid in {board["uid"] for board in boards(one).values()}), None)


def first(language: str) -> str:
    """The uid of the one to be seen first."""
    return str(boards(language)[FIRST]["uid"])


def live(uid: str, speed: float) -> Board | None:
    """What the live page needs to draw one dashboard, times in seconds on the wall; None: there is no such one."""
    if (language := language_of(uid)) is None:
        return None
    own = boards(language)
    name = next(name for name, one in own.items() if one["uid"] == uid)
    board = chosen(faster(own[name], speed))
    for panel in board["panels"]:
        if "interval" in panel:
            panel["interval"] = seconds(panel["interval"])
    day = seconds(board["time"]["from"].removeprefix("now-"))
    return {
        "board": board,
        "boards": [{"uid": own[one]["uid"], "title": own[one]["title"]} for one in sorted(own, key=FIRST.__ne__)],
        "others": {other: boards(other)[name]["uid"] for other in LANGUAGES if other != language},
        "speed": speed,
        "range": day,
        "step": max(1, round(day / POINTS)),
    }
