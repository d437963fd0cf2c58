"""Prometheus' own tools, and a few questions of ours, about the rules in deploy/prometheus.

That a rule is tested is itself tested: every number and duration of every alert is changed a little in a copy, and
then the alert's promtool test must fail.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
import yaml

from schemas.catalogue import Catalogue
from service.cli.main import main
from tests import rules
from tests.metrics import exposed
from tests.prometheus import program
from tests.rules import HOME, RULES, TESTS, Rule

RUNBOOKS = HOME.parent / "runbooks"
GRAFANA = HOME.parent / "grafana" / "dashboards"
ALERTMANAGER = HOME / "alertmanager.yml"
CASE_SLOS = "incident_completion", "repair_arrival", "repair_completion"
SEVERITIES = {
    "page": {
        *("TargetDown", "KafkaDisconnected", "JournalBacklogAge", "LedgerMismatch", "JournalDiskFull"),
        *("MessagesParked", "JournalSetAside", "ErrorBudgetBurn"),
    },
    "wall": {
        *("JournalGrowing", "KafkaPublishFailing", "TopicUnsafe", "RejectSpike", "CaseTrackerStale", "CasesIncomplete"),
        *("RelayHeartbeatStale", "ReportsSilent", "KeysStale", "SinkBehind", "AuditUnwritten"),
    },
    "desk": {"IncidentOverdue", "RepairArrivalOverdue", "RepairOverdue", "CasesDueSoon"},
}
NAMES = sorted({rule["alert"] for rule in rules.alerts()})


def tool(name: str, *arguments: str | Path) -> tuple[bool, str]:
    """Whether one of Prometheus' programs was content, and what it said."""
    command = [program(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode == 0, done.stdout + done.stderr


# ---- the tools' own checks ----


def test_promtool_has_nothing_to_say_about_the_rules() -> None:
    content, said = tool("promtool", "check", "rules", "--lint-fatal", *RULES)
    assert content, said


def test_promtool_has_nothing_to_say_about_the_configuration() -> None:
    content, said = tool("promtool", "check", "config", HOME / "prometheus.yml")
    assert content, said


def test_amtool_has_nothing_to_say_about_the_routes() -> None:
    content, said = tool("amtool", "check-config", ALERTMANAGER)
    assert content, said


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.stem)
def test_the_promtool_tests_pass(test: Path) -> None:
    content, said = tool("promtool", "test", "rules", test)
    assert content, said


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["severity=page", "alertname=TargetDown"], "pager,duty-wall"),
        (["severity=wall", "alertname=RejectSpike"], "duty-wall"),
        (["severity=desk", "alertname=RepairOverdue"], "dispatch-desk"),
        (["severity=page", "alertname=ErrorBudgetBurn", "slo=published"], "pager,duty-wall"),
        *(
            (["severity=page", "alertname=ErrorBudgetBurn", f"slo={slo}"], "dispatch-desk,pager,duty-wall")
            for slo in CASE_SLOS
        ),
        (["alertname=SomebodyElses"], "duty-wall"),
    ],
    ids=" ".join,
)
def test_who_is_told(labels: list[str], receivers: str) -> None:
    arguments = ["config", "routes", "test", f"--config.file={ALERTMANAGER}", f"--verify.receivers={receivers}"]
    content, said = tool("amtool", *arguments, *labels)
    assert content, said


# ---- every alert is tested, and its test notices a change ----


def test_every_alert_is_there_with_its_severity() -> None:
    told: dict[str, set[str]] = {}
    for rule in rules.alerts():
        told.setdefault(rule["labels"]["severity"], set()).add(rule["alert"])
    assert told == SEVERITIES


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_fires_keeps_quiet_and_survives_a_reset(name: str) -> None:
    given = yaml.safe_load((HOME / "tests" / f"{name}.yml").read_text(encoding="utf-8"))
    assert given["group_eval_order"]
    stories = [test["name"].removeprefix(f"{name}: ") for test in given["tests"]]
    for word in ("fires", "quiet", "reset"):
        assert any(story.startswith(word) for story in stories), f"no story of {name} that begins with {word!r}"
    told = [check for test in given["tests"] for check in test.get("alert_rule_test", [])]
    assert any(check["exp_alerts"] for check in told), "no story reads the alert's own words"


@pytest.mark.parametrize("name", NAMES)
def test_no_changed_alert_passes_its_test(name: str, tmp_path: Path) -> None:
    same = [rule for rule in rules.alerts() if rule["alert"] == name]
    below = set().union(*(rules.needed(rule) for rule in same))

    def run(what: str, original: Rule | None, changed: Rule | None) -> tuple[str, bool, str]:
        def keep(rule: Rule) -> Rule | None:
            if "record" in rule:
                return rule if rule["record"] in below else None
            return changed if rule == original else rule if rule["alert"] == name else None

        place = tmp_path / re.sub(r"\W", "_", f"{what}{id(changed)}")
        test = rules.copied(place, HOME / "tests" / f"{name}.yml", keep)
        return (what, *tool("promtool", "test", "rules", test))

    _, content, said = run("as it is", None, None)
    assert content, said
    trials = [(what, rule, changed) for rule in same for what, changed in rules.mutants(rule)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda trial: run(*trial), trials))
    assert len(results) >= 2
    assert [what for what, content, _ in results if content] == [], "these changes were not noticed"
    broken = [said for _, _, said in results if "exp:" not in said]
    assert broken == [], "changes that promtool cannot even read prove nothing"


# ---- what the rules name exists ----


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Of everything the service exposes: by sample name, its labels, with the values that are there from the start."""
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    told = exposed(tmp_path_factory.mktemp("exposed"), Catalogue.load())
    for sample in (sample for family in told.collect() for sample in family.samples):
        labels = found.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    for label, values in found["gridgov_http_request_duration_seconds_count"].items():
        found["gridgov_http_requests_total"][label] = values  # the same method and route, made with the first answer
    return found


OURS = {"job", "instance"}  # what Prometheus adds
MADE_LATER = {("gridgov_http_requests_total", "status")}  # label values that come with the first such answer
RECORDED = {rule["record"] for rule in rules.records()}


@pytest.mark.parametrize(
    "rule", [*rules.alerts(), *rules.records()], ids=lambda rule: rule.get("alert") or rule["record"]
)
def test_what_a_rule_names_exists(rule: Rule, known: dict[str, dict[str, set[str]]]) -> None:
    expr = rule["expr"]
    chosen = rules.selectors(expr)
    assert len(re.findall(r"gridgov[_:]\w", re.sub(r'"[^"]*"', "", expr))) == sum(n != "up" for n, _ in chosen)
    labels = {*OURS, "slo"} if "gridgov:" in expr else set(OURS)
    for name, matchers in chosen:
        if name.startswith("gridgov:"):
            assert name in RECORDED
            labels |= {label for metric in known.values() for label in metric}
            continue
        assert name in known
        labels |= known[name].keys()
        assert {label for label, _, _ in matchers} <= known[name].keys() | OURS
    assert rules.grouped(expr) <= labels


@pytest.mark.parametrize(
    "rule", [*rules.alerts(), *rules.records()], ids=lambda rule: rule.get("alert") or rule["record"]
)
def test_every_value_that_a_rule_asks_for_exists(rule: Rule, known: dict[str, dict[str, set[str]]]) -> None:
    for name, matchers in rules.selectors(rule["expr"]):
        for label, _, value in matchers:
            if label in OURS or (name, label) in MADE_LATER:
                continue
            there = known[name][label] if name in known else anywhere(known, label)
            for one in value.split("|"):
                assert any(re.fullmatch(one, each) for each in there), f"{name} never has {label}={one}"


def anywhere(known: dict[str, dict[str, set[str]]], label: str) -> set[str]:
    """Every value of a label, of whatever metric or recording rule."""
    exposed_values = (metric.get(label, set()) for metric in known.values())
    return {rule["labels"][label] for rule in rules.records() if label in rule.get("labels", {})}.union(*exposed_values)


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.stem)
def test_the_series_of_the_promtool_tests_exist(test: Path, known: dict[str, dict[str, set[str]]]) -> None:
    given = yaml.safe_load(test.read_text(encoding="utf-8"))
    for series in (one["series"] for case in given["tests"] for one in case["input_series"]):
        [(name, matchers)] = rules.selectors(series)
        assert {label for label, _, _ in matchers} == known[name].keys() | OURS, series
        assert all(value in known[name]["le"] for label, _, value in matchers if label == "le"), series


@pytest.mark.parametrize("rule", rules.records(), ids=lambda rule: rule["record"])
def test_a_window_is_what_its_name_says(rule: Rule) -> None:
    [window] = re.findall(r"(?:increase|rate|ratio|quantile)(\d+[mhd])$", rule["record"]) or [None]
    ranges = set(re.findall(r"\[([^]]*)\]", rule["expr"]))
    below = {name for name in re.findall(r"gridgov:[\w:]+", rule["expr"]) if re.search(r"\d+[mhd]$", name)}
    assert ranges | {re.findall(r"\d+[mhd]$", name)[0] for name in below} <= {window}


# ---- what an alert says ----


@pytest.mark.parametrize("rule", rules.alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_speaks_both_languages_and_leads_somewhere(rule: Rule) -> None:
    told: dict[str, str] = rule["annotations"]
    assert told.keys() == {"summary_zh", "summary_en", "runbook_url", "dashboard_url"}
    assert re.search(r"[\u4e00-\u9fff]", told["summary_zh"])
    assert told["summary_en"].isascii()
    page, _, anchor = told["runbook_url"].removeprefix("{{ $externalLabels.runbooks }}/").partition("#")
    text = (RUNBOOKS / page).read_text(encoding="utf-8")
    if rule["labels"]["severity"] == "page":
        assert page == f"{rule['alert']}.md"
    else:
        assert (page, anchor) == ("others.md", rule["alert"])
        assert f'<a id="{anchor}"></a>' in text
    uid = told["dashboard_url"].removeprefix("{{ $externalLabels.grafana }}/d/")
    assert uid in {orjson.loads(file.read_bytes())["uid"] for file in GRAFANA.rglob("*.json")}


def test_where_the_links_lead_is_said_once_and_never_becomes_a_label() -> None:
    given: dict[str, Any] = yaml.safe_load((HOME / "prometheus.yml").read_text(encoding="utf-8"))
    links = set(re.findall(r"\$externalLabels\.(\w+)", (HOME / "rules" / "alerts.yml").read_text(encoding="utf-8")))
    assert given["global"]["external_labels"].keys() == links
    [drop] = given["alerting"]["alert_relabel_configs"]
    assert drop == {"action": "labeldrop", "regex": "grafana|runbooks"}


HEADINGS = (
    "## 含义 / What it means",
    "## 公众会看到什么 / What the public notices",
    "## 看什么 / What to look at",
    "## 做什么 / What to do",
    "## 怎样算结束 / How to know it is over",
)


@pytest.mark.parametrize("name", sorted(SEVERITIES["page"]))
def test_every_page_has_a_whole_runbook(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert tuple(line for line in text.splitlines() if line.startswith("## ")) == HEADINGS


def test_no_runbook_is_left_over() -> None:
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == SEVERITIES["page"] | {"others"}


@pytest.mark.parametrize("file", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_the_commands_of_a_runbook_exist(file: Path) -> None:
    code = re.findall(r"```.*?```|`[^`\n]+`", file.read_text(encoding="utf-8"), re.DOTALL)
    commands = [line.split() for part in code for line in re.findall(r"\bgridgov ([a-z][^`#|\n]*)", part)]
    assert commands, "a runbook without a command of ours"
    for words in commands:
        command: click.Command = main
        while isinstance(command, click.Group):
            assert words, f"gridgov {command.name}: which command of it?"
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"no such command: gridgov … {' '.join(words)}"
            command = found
            words.pop(0)
        options = {name for param in command.params for name in param.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"{command.name} {' '.join(words)}"
