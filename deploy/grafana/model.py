"""What every Grafana dashboard here is made of: texts in two languages, looks, variables, the frame.

Classic JSON, schemaVersion 42, for Grafana 10 to 13. Until `spoken` makes it the JSON of one language, every text in a
dashboard is still a `Text`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]


class Text(NamedTuple):
    """One text in the two languages; the order of `LANGUAGES`."""

    zh: str
    en: str


Words = Text | str  # a plain string reads the same in both
LANGUAGES = ("zh", "en")
GRID = 24  # columns
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
NO_DATA = Text("无数据", "no data")
MADE_FOR = "12.0.0"  # the panel models below; without it Grafana takes a panel for one of version 6 and migrates it


class Query(NamedTuple):
    """One PromQL expression; `legend` may name labels as `{{label}}`."""

    expr: str
    legend: Words = ""


class Step(NamedTuple):
    """From `value` up (None: from the bottom) the colour is this."""

    value: float | None
    color: str


NEUTRAL = (Step(None, "blue"),)
# on an axis the units of seconds have ticks at 00:16:40: a query divided by 60 or 3600 has round ones
MINUTES, HOURS = Text("suffix:分", "suffix:min"), Text("suffix:小时", "suffix:h")


def alarming(*, orange: float | None = None, red: float | None = None) -> tuple[Step, ...]:
    """Green until it gets too high."""
    return Step(None, "green"), *(Step(at, color) for at, color in ((orange, "orange"), (red, "red")) if at is not None)


def promised(target: float, *, orange_from: float) -> tuple[Step, ...]:
    """Green from the target up, orange a little below it, red under that."""
    return Step(None, "red"), Step(orange_from, "orange"), Step(target, "green")


@dataclass(frozen=True)
class Panel:
    """One panel of `width` × `height` grid units (a unit of height is 38 px)."""

    width: int
    height: int
    body: Json


@dataclass(frozen=True)
class Look:
    """How the values of a panel, or of one column or series, are shown. `names`: raw value → what is read instead."""

    unit: Words = "none"
    steps: tuple[Step, ...] = NEUTRAL
    decimals: int | None = None
    least: float | None = None
    most: float | None = None
    names: Mapping[str, Words] = field(default_factory=dict)
    nothing: Words = NO_DATA

    def defaults(self) -> Json:
        """The `fieldConfig.defaults` of it."""
        bounds = {"decimals": self.decimals, "min": self.least, "max": self.most}
        return {
            "unit": self.unit,
            "color": {"mode": "thresholds"},
            "thresholds": {"mode": "absolute", "steps": [step._asdict() for step in self.steps]},
            "mappings": _mappings(self.names),
            "noValue": self.nothing,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }


def dashboard(uid: str, title: Text, about: Text, panels: Sequence[Panel], **settings: Any) -> Json:
    """The whole, its panels placed from left to right and numbered; `settings` win over what is usual here."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "schemaVersion": 42,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "panels": [{"id": n, **placed} for n, placed in enumerate(_placed(panels), 1)],
        **settings,
        "templating": {"list": [_DATASOURCE_VARIABLE, *settings.get("templating", {}).get("list", [])]},
    }


def choice(name: str, label: Text, options: Mapping[str, Text]) -> Json:
    """A variable with a closed list of values, the first one chosen at first; value → what is read."""
    listed = [{"text": text, "value": value, "selected": not n} for n, (value, text) in enumerate(options.items())]
    query = Text(*(", ".join(f"{text[n]} : {value}" for value, text in options.items()) for n in range(len(LANGUAGES))))
    return {
        "name": name,
        "type": "custom",
        "label": label,
        "query": query,
        "options": listed,
        "current": listed[0],
        **_PLAIN_VARIABLE,
    }


def spoken(value: Any, language: str) -> Any:
    """The same tree with every `Text`, key or value, in one language."""
    match value:
        case Text():
            return value[LANGUAGES.index(language)]
        case dict():
            return {spoken(key, language): spoken(item, language) for key, item in value.items()}
        case list() | tuple():
            return [spoken(item, language) for item in value]
    return value


_PLAIN_VARIABLE = {"hide": 0, "includeAll": False, "multi": False, "skipUrlSync": False}
_DATASOURCE_VARIABLE = {
    "name": "datasource",
    "type": "datasource",
    "label": Text("数据源", "Data source"),
    "query": "prometheus",
    "regex": "",
    "refresh": 1,
    "current": {},
    "options": [],
    **_PLAIN_VARIABLE,
}


def _mappings(names: Mapping[str, Words]) -> list[Json]:
    options = {raw: {"text": name, "index": n} for n, (raw, name) in enumerate(names.items())}
    return [{"type": "value", "options": options}] if names else []


def _placed(panels: Sequence[Panel]) -> Iterable[Json]:
    """Their bodies with `gridPos`; a panel that does not fit beside the last begins a new line."""
    x = y = tallest = 0
    for panel in panels:
        if x + panel.width > GRID:
            x, y, tallest = 0, y + tallest, 0
        yield {**panel.body, "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}}
        x, tallest = x + panel.width, max(tallest, panel.height)
