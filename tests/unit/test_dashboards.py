"""The Grafana dashboards: current, well-formed, in one language each, and about metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.grafana import dashboards
from deploy.grafana.names import ALERTS, SEVERITIES
from schemas.catalogue import Catalogue
from service.cases.metrics import CaseCollector
from tests.metrics import exposed

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = sorted(dashboards.DIRECTORY.glob("*/*.json"))
Json = dict[str, Any]

# What classic dashboards of Grafana 10 to 13 know, as far as these use it. All of it came back whole from a
# load-and-re-encode through the models of grafana-foundation-sdk 0.0.21, which drop what they do not know.
KEYS = {
    "dashboard": "uid title description schemaVersion version editable graphTooltip timezone fiscalYearStartMonth"
    " refresh time timepicker annotations panels templating tags links",
    "row": "id type title collapsed panels gridPos",
    "panel": "id type title description datasource pluginVersion targets fieldConfig options gridPos",
    "target": "refId datasource editorMode expr format instant range legendFormat",
    "defaults": "unit color thresholds mappings noValue decimals min max custom",
    "stat": "reduceOptions orientation textMode colorMode graphMode justifyMode wideLayout",
    "gauge": "reduceOptions orientation showThresholdLabels showThresholdMarkers sizing",
    "bargauge": "reduceOptions orientation displayMode valueMode showUnfilled namePlacement sizing",
    "timeseries": "legend tooltip",
    "table": "showHeader cellHeight",
    "custom": "drawStyle lineWidth fillOpacity showPoints spanNulls thresholdsStyle axisSoftMin barAlignment stacking"
    " align cellOptions inspect minWidth",
}
OVERRIDES = {
    *("displayName", "unit", "decimals", "mappings", "thresholds", "color"),
    *("custom.cellOptions", "custom.width", "custom.lineStyle", "custom.fillOpacity", "custom.showPoints"),
}
VALUES = {  # setting → what it may be
    "unit": {"none", "percentunit", "dthms", "clocks", "s", "bytes"}
    | {f"suffix:{word}" for word in ("分", "min", "小时", "h")},
    "type": {"row", "stat", "gauge", "bargauge", "timeseries", "table", *("value", "special", "custom", "datasource")}
    | {"auto", "color-text", "prometheus", "dashboards"},
    "mode": {"absolute", "thresholds", "palette-classic", "fixed", "off", "dashed", "normal", "multi"},
    "color": {"blue", "green", "orange", "red", "text"},
    "fixedColor": {"red"},
    "colorMode": {"value", "background"},
    "graphMode": {"none"},
    "textMode": {"value", "value_and_name"},
    "displayMode": {"list", "basic"},
    "placement": {"bottom", "right"},
    "drawStyle": {"line", "bars"},
    "showPoints": {"auto", "never"},
    "format": {"time_series", "table"},
    "id": {"byName", "merge", "organize", "sortBy"} | OVERRIDES,
}
LONGEST_S = 10  # seconds; from a minute up the unit `s` prints English words

# A title has the width of its panel on a screen of 1440 px less padding and menu; Grafana cuts what is longer.
COLUMN_PX, CHROME_PX, HAN_PX, LATIN_PX = 60, 48, 14, 7.6
HAN = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
LOANWORDS = {"Kafka", "POST"}  # that a Chinese title may use


def load(path: Path) -> Json:
    loaded: Json = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


each_file = pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])


def test_files_are_current() -> None:
    wanted = {path: dashboards.encoded(made) for path, made in dashboards.generated(Catalogue.load())}
    kept = {f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8") for path in FILES}
    assert wanted.keys() == kept.keys()
    assert [path for path in wanted if wanted[path] != kept[path]] == [], "python -m deploy.grafana.dashboards"


def test_check_names_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboards, "DIRECTORY", tmp_path)
    assert dashboards.main(["--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert dashboards.main([]) == 0
    assert dashboards.main(["--check"]) == 0
    (tmp_path / "zh" / "duty-wall.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert dashboards.main(["--check"]) == 1
    assert capsys.readouterr().err == "stale: dashboards/zh/duty-wall.json\n"


# ---- form ----


@each_file
def test_keys_are_known(path: Path) -> None:
    board = load(path)
    known = {name: set(keys.split()) for name, keys in KEYS.items()}
    assert board.keys() <= known["dashboard"]
    assert board["schemaVersion"] == 42
    for panel in board["panels"]:
        if panel["type"] == "row":
            assert panel.keys() <= known["row"]
            continue
        extra = {"table": {"transformations"}, "timeseries": {"interval"}}.get(panel["type"], set())
        assert panel.keys() <= known["panel"] | extra, panel["title"]
        assert panel["options"].keys() <= known[panel["type"]], panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults.keys() <= known["defaults"], panel["title"]
        assert defaults.get("custom", {}).keys() <= known["custom"], panel["title"]
        assert all(target.keys() <= known["target"] for target in panel["targets"]), panel["title"]
        properties = [one["id"] for over in panel["fieldConfig"]["overrides"] for one in over["properties"]]
        assert set(properties) <= OVERRIDES, panel["title"]


@each_file
def test_values_are_known(path: Path) -> None:
    wrong = [
        (key, value)
        for key, value in settings(load(path))
        if isinstance(value, str) and key in VALUES and value not in VALUES[key]
    ]
    assert wrong == []


def settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from settings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from settings(inner)


@each_file
def test_panels_are_complete(path: Path) -> None:
    board = load(path)
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    for panel in panels(board):
        assert panel["title"].strip(), panel["id"]
        assert len(panel["description"]) > 5, panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGHIJ"][: len(panel["targets"])]
        for steps in (value["steps"] for key, value in settings(panel) if key == "thresholds"):
            assert steps[0]["value"] is None
            bounds = [step["value"] for step in steps[1:]]
            assert all(low < high for low, high in pairwise(bounds)), panel["title"]


@each_file
def test_queries_ask_the_chosen_data_source(path: Path) -> None:
    board = load(path)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([panels(board)])))
    assert used == variables
    sources = [value for key, value in settings(board["panels"]) if key == "datasource"]
    assert sources
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


@each_file
def test_panels_do_not_overlap(path: Path) -> None:
    places = [panel["gridPos"] for panel in load(path)["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_duty_wall_fits_one_screen(language: str) -> None:
    places = [panel["gridPos"] for panel in load(dashboards.DIRECTORY / language / "duty-wall.json")["panels"]]
    assert max(place["y"] + place["h"] for place in places) * 38 <= 1080


@each_file
def test_titles_fit_their_panels(path: Path) -> None:
    for panel in panels(load(path)):
        room = panel["gridPos"]["w"] * COLUMN_PX - CHROME_PX
        needed = sum(HAN_PX if HAN.match(letter) else LATIN_PX for letter in panel["title"])
        assert needed <= room, f"{panel['title']}: {needed:.0f} px of {room}"


def test_uids_are_those_that_are_linked_to() -> None:
    uids = {load(path)["uid"]: path for path in FILES}
    assert len(uids) == len(FILES)
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in uids)
    linked = set(re.findall(r"/d/([\w-]+)", (DEPLOY / "prometheus" / "rules" / "alerts.yml").read_text("utf-8")))
    assert linked
    assert linked <= uids.keys()


# ---- language ----


@each_file
def test_one_language_each(path: Path) -> None:
    board = load(path)
    if path.parent.name == "en":
        assert not HAN.search(json.dumps(board, ensure_ascii=False))
        return
    for text in [board["title"], *(panel["title"] for panel in board["panels"])]:
        assert HAN.search(text), text
        assert set(re.findall(r"[A-Za-z]{2,}", text)) <= LOANWORDS, text
    for panel in panels(board):
        assert HAN.search(panel["description"]), panel["title"]
    shown = [value for key, value in settings(board) if key in ("noValue", "text", "label", "displayName")]
    assert all(HAN.search(text) or text == "–" for text in shown), shown


def test_both_languages_ask_the_same() -> None:
    def asked(language: str) -> list[Json]:
        boards = [load(path) for path in FILES if path.parent.name == language]
        return [
            {key: target[key] for key in ("expr", "instant", "format")}
            for panel in chain.from_iterable(map(panels, boards))
            for target in panel["targets"]
        ]

    assert asked("zh") == asked("en")


def test_every_alert_has_a_name() -> None:
    rules = [yaml.safe_load(path.read_text("utf-8")) for path in (DEPLOY / "prometheus" / "rules").glob("*.yml")]
    listed = [rule for file in rules for group in file["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in listed} == ALERTS.keys()
    assert {rule["labels"]["severity"] for rule in listed} == SEVERITIES.keys()


# ---- queries ----

EXPRS = sorted({target["expr"] for path in FILES for panel in panels(load(path)) for target in panel["targets"]})
METRIC = re.compile(r"\b(gridgov_\w+|ALERTS\w*)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
GROUPING = re.compile(r"(?:sum|max|min|count) by \(([^)]*)\) \(")
TARGET_LABELS = {"job", "instance"}
OF_PROMETHEUS = {"ALERTS": {"alertname", "alertstate", "severity"}, "ALERTS_FOR_STATE": {"alertname", "severity"}}
OPEN_LABELS = {"status"}  # of which only those answered so far are exposed


class Declared(NamedTuple):
    """The samples that the service exposes: name → label → values."""

    samples: dict[str, dict[str, set[str]]]
    of_cases: set[str]


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Declared:
    def labelled(registry: CollectorRegistry) -> dict[str, dict[str, set[str]]]:
        found: dict[str, dict[str, set[str]]] = {}
        for sample in (sample for family in registry.collect() for sample in family.samples):
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
        return found

    everything = exposed(tmp_path_factory.mktemp("service"), Catalogue.load())
    cases = CollectorRegistry()
    cases.register(next(one for one in everything._collector_to_names if isinstance(one, CaseCollector)))
    samples = labelled(everything)
    alerts = {name: {label: set(ALERTS) for label in labels} for name, labels in OF_PROMETHEUS.items()}
    return Declared(samples | alerts, set(labelled(cases)))


@pytest.mark.parametrize("expr", EXPRS)
def test_metrics_labels_and_values_exist(expr: str, declared: Declared) -> None:
    assert METRIC.search(expr)
    for name, matchers in METRIC.findall(expr):
        assert name in declared.samples
        for label, operator, pattern in MATCHER.findall(matchers):
            assert label in declared.samples[name], (name, label)
            if name in OF_PROMETHEUS or label in OPEN_LABELS:
                continue
            wanted = pattern.split("|") if "~" in operator else [pattern]
            assert set(wanted) <= declared.samples[name][label], (name, label)
    for labels, inside in groupings(expr):
        for name, _ in METRIC.findall(inside):
            assert labels <= declared.samples[name].keys() | TARGET_LABELS, (name, labels)


def groupings(expr: str) -> Iterator[tuple[set[str], str]]:
    """Each `by (…) (…)`: the labels, and what is aggregated."""
    for found in GROUPING.finditer(expr):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expr[end], 0)
            end += 1
        yield set(filter(None, found[1].split(", "))), expr[found.end() : end - 1]


@pytest.mark.parametrize("expr", EXPRS)
def test_case_metrics_are_never_summed_over_relays(expr: str, declared: Declared) -> None:
    """Each is taken once for each set of its own labels before anything else is done with it."""
    single = {"gridgov_case_fold_lag_messages", "gridgov_case_tracker_last_run_timestamp_seconds"}
    for found in METRIC.finditer(expr):
        name = found[1]
        if name not in declared.of_cases:
            continue
        before = expr[: found.start()]
        if not declared.samples[name] or name in single:
            assert before.endswith("max("), name
            continue
        taken = re.search(r"(?:max by \(([^)]*)\) \(|min by \(([^)]*)\) \(min_over_time\()$", before)
        assert taken, name
        assert set((taken[1] or taken[2]).split(", ")) == declared.samples[name].keys(), name


@pytest.mark.parametrize("expr", EXPRS)
def test_windows_are_fixed(expr: str) -> None:
    assert not re.search(r"\$__(rate_)?interval|\$__range", expr)
    windows = set(re.findall(r"\[(\d+[smhdw]|\$[{\w}]+)", expr))
    assert windows <= {"15m", "1h", "6h", "28d", "${window}"}


def test_legends_name_labels_that_stay(declared: Declared) -> None:
    for panel in chain.from_iterable(panels(load(path)) for path in FILES):
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = set().union(*(labels for labels, _ in list(groupings(target["expr"]))[:1]))
            kept |= {"place"} if "label_join" in target["expr"] else set()
            assert named <= kept, (panel["title"], target["expr"])


def test_seconds_are_short_where_the_unit_is_s(declared: Declared) -> None:
    shown = [panel for path in FILES for panel in panels(load(path)) if panel["fieldConfig"]["defaults"]["unit"] == "s"]
    assert shown
    for panel in shown:
        for name, _ in chain.from_iterable(METRIC.findall(target["expr"]) for target in panel["targets"]):
            edges = declared.samples[name]["le"] - {"+Inf"}
            assert max(map(float, edges)) <= LONGEST_S, panel["title"]


def test_what_is_now_is_asked_now() -> None:
    """A range's last value would stand on the wall for hours after its process is gone."""
    for panel in chain.from_iterable(panels(load(path)) for path in FILES):
        over_time = panel["type"] == "timeseries"
        assert all(target["instant"] != over_time and target["range"] == over_time for target in panel["targets"])


# ---- provisioning ----


def test_provisioning_finds_the_files() -> None:
    providers = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/gridgov.yaml").read_text("utf-8"))[
        "providers"
    ]
    folders = {Path(one["options"]["path"]).name: one for one in providers}
    assert folders.keys() == {path.parent.name for path in FILES}
    assert len({one["name"] for one in providers}) == len({one["folderUid"] for one in providers}) == len(providers)
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))[
        "datasources"
    ]
    assert source["type"] == "prometheus"
