"""The kinds of panel; each builder returns one, its texts still in both languages.

What is only counted *now* is asked as an instant query, never as the last value of a range: when a process is gone its
figures must go too, not stand on the wall as if they were fresh.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deploy.grafana.model import DATASOURCE, GRID, MADE_FOR, NEUTRAL, Json, Look, Panel, Query, Text, Words


def row(title: Text) -> Panel:
    """A heading across the dashboard."""
    return Panel(GRID, 1, {"type": "row", "title": title, "collapsed": False, "panels": []})


def stat(title: Text, about: Text, query: Query | str, look: Look, *, width: int = 3, height: int = 4) -> Panel:
    """One big number; of a `Query`, whose legend tells them apart, one for each series with its name."""
    options = {
        "reduceOptions": _LAST,
        "orientation": "auto",
        "textMode": "value_and_name" if isinstance(query, Query) else "value",
        "colorMode": "value" if look.steps == NEUTRAL else "background",
        "graphMode": "none",
        "justifyMode": "center",
        "wideLayout": True,
    }
    body = _body("stat", title, about, _instants(query), look, options)
    if isinstance(query, Query):
        _rename_series(body, look.names)
    return Panel(width, height, body)


def gauge(title: Text, about: Text, expr: str, look: Look, *, width: int, height: int) -> Panel:
    """A dial from `least` to `most`."""
    options = {
        "reduceOptions": _LAST,
        "orientation": "auto",
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
    }
    return Panel(width, height, _body("gauge", title, about, _instants(expr), look, options))


def ranking(title: Text, about: Text, query: Query, look: Look, *, width: int, height: int) -> Panel:
    """One bar per series, longest first if the query sorts."""
    options = {
        "reduceOptions": _LAST,
        "orientation": "horizontal",
        "displayMode": "basic",
        "valueMode": "color",
        "showUnfilled": True,
        "namePlacement": "top",  # beside the bar it has two fifths of the panel, which cuts English names alike
        "sizing": "auto",
    }
    body = _body("bargauge", title, about, _instants(query), look, options)
    _rename_series(body, look.names)
    return Panel(width, height, body)


def lines(
    title: Text,
    about: Text,
    queries: Sequence[Query],
    look: Look,
    *,
    width: int = 12,
    height: int = 8,
    legend: str = "bottom",
    marks: bool = False,
    limit: Text | None = None,
) -> Panel:
    """Values over time. `marks` draws the thresholds; the series named `limit` is drawn as a dashed red line."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 2,
        "fillOpacity": 0 if len(queries) > 1 else 10,
        "showPoints": "auto",
        "spanNulls": False,
    }
    custom["thresholdsStyle"] = {"mode": "dashed" if marks else "off"}
    body = _over_time(title, about, queries, look, custom, legend)
    if limit:
        _override(body, limit, _LIMIT_LINE)
    return Panel(width, height, body)


def hourly(title: Text, about: Text, query: Query, look: Look, *, width: int = 12, height: int = 8) -> Panel:
    """Stacked bars, one per hour: the query must count over `[1h]`, and the step is never shorter than that."""
    custom = {
        "drawStyle": "bars",
        "lineWidth": 1,
        "fillOpacity": 80,
        "barAlignment": -1,
        "stacking": {"mode": "normal", "group": "A"},
    }
    body = _over_time(title, about, [query], look, custom, "right")
    return Panel(width, height, {**body, "interval": "1h"})


def stacked(title: Text, about: Text, query: Query, look: Look, *, width: int = 12, height: int = 8) -> Panel:
    """Areas on top of each other."""
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 50, "showPoints": "never", "spanNulls": False}
    custom["stacking"] = {"mode": "normal", "group": "A"}
    return Panel(width, height, _over_time(title, about, [query], look, custom, "bottom"))


class Column(NamedTuple):
    """One column: its name, the query or the label that fills it, its look; `width` in px, 0: what is left."""

    title: Text
    source: str
    look: Look
    is_label: bool = False
    width: int = 0


def table(
    title: Text,
    about: Text,
    columns: Sequence[Column],
    look: Look,
    *,
    hidden: Iterable[str],
    first: Text,
    width: int,
    height: int,
) -> Panel:
    """One row per set of labels. `hidden`: labels not shown; `first`: the column whose largest value comes first."""
    asked = [column.source for column in columns if not column.is_label]
    targets = [_target(expr, _REFS[n], instant=True, format="table") for n, expr in enumerate(asked)]
    names = [column.source if column.is_label else _value(asked, column.source) for column in columns]
    organize = {
        "excludeByName": dict.fromkeys(("Time", *hidden), True),
        "indexByName": {name: n for n, name in enumerate(names)},
        "renameByName": {name: column.title for name, column in zip(names, columns, strict=True)},
    }
    body = _body("table", title, about, targets, look, {"showHeader": True, "cellHeight": "sm"})
    body["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": organize},
        {"id": "sortBy", "options": {"sort": [{"field": first, "desc": True}]}},
    ]
    body["fieldConfig"]["defaults"]["custom"] = {**_CELL, "minWidth": _LEAST_COLUMN}
    for column in columns:
        _override(body, column.title, _column_look(column))
    return Panel(width, height, body)


# ---- the parts of a panel ----

_REFS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_CELL = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
_LEAST_COLUMN = 80  # px; Grafana's own 150 makes a table of eight columns wider than its panel, and hides the last
_LIMIT_LINE = {
    "color": {"mode": "fixed", "fixedColor": "red"},
    "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
    "custom.fillOpacity": 0,
    "custom.showPoints": "never",
}


def _body(type_: str, title: Text, about: Text, targets: list[Json], look: Look, options: Json) -> Json:
    return {
        "type": type_,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "pluginVersion": MADE_FOR,
        "targets": targets,
        "fieldConfig": {"defaults": look.defaults(), "overrides": []},
        "options": options,
    }


def _over_time(title: Text, about: Text, queries: Sequence[Query], look: Look, custom: Json, legend: str) -> Json:
    options = {
        "legend": {"displayMode": "list", "placement": legend, "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    body = _body("timeseries", title, about, _ranges(queries), look, options)
    body["fieldConfig"]["defaults"] |= {
        "custom": {**custom, "axisSoftMin": 0},
        "color": {"mode": "palette-classic"},  # one colour per series
    }
    _rename_series(body, look.names)
    return body


def _target(expr: str, ref: str, *, instant: bool, legend: Words = "", format: str = "time_series") -> Json:
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": format,
        "instant": instant,
        "range": not instant,
        "legendFormat": legend or "__auto",
    }


def _instants(query: Query | str) -> list[Json]:
    asked = Query(query) if isinstance(query, str) else query
    return [_target(asked.expr, "A", instant=True, legend=asked.legend)]


def _ranges(queries: Sequence[Query]) -> list[Json]:
    return [_target(q.expr, _REFS[n], instant=False, legend=q.legend) for n, q in enumerate(queries)]


def _rename_series(body: Json, names: Mapping[str, Words]) -> None:
    """Series are named by their legend, which no value mapping reaches: rename each."""
    body["fieldConfig"]["defaults"]["mappings"] = []
    for raw, name in names.items():
        _override(body, raw, {"displayName": name})


def _override(body: Json, name: Words, properties: Json) -> None:
    listed = [{"id": key, "value": value} for key, value in properties.items()]
    matcher = {"id": "byName", "options": name}
    body["fieldConfig"]["overrides"].append({"matcher": matcher, "properties": listed})


def _value(asked: Sequence[str], expr: str) -> str:
    """What Grafana calls the values of one of a table's queries."""
    return f"Value #{_REFS[asked.index(expr)]}" if len(asked) > 1 else "Value"


def _column_look(column: Column) -> Json:
    shown = column.look.defaults()
    plain = column.is_label or column.look.steps == NEUTRAL
    return {
        **{key: shown[key] for key in ("unit", "decimals", "thresholds", "color") if key in shown},
        "mappings": shown["mappings"] or [_NOTHING],
        "custom.cellOptions": {"type": "auto" if plain else "color-text"},
        **({"custom.width": column.width} if column.width else {}),
    }


# what another query's rows have no value for: not the color of the lowest step, which is red for a ratio
_NOTHING = {"type": "special", "options": {"match": "null", "result": {"text": "–", "color": "text", "index": 0}}}
