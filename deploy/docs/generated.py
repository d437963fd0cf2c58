"""What the pages say that is written somewhere else already: options, alerts, the promise. Markdown, by language."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from schemas.promise import PROMISE, PROMISE_ZH
from service import config

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "deploy" / "runbooks"
RULES = ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml"
OPTIONS_ZH: dict[str, str] = tomllib.loads((Path(__file__).parent / "options.zh.toml").read_text(encoding="utf-8"))
HEADS = {
    "options": {"en": "option | default | unit | meaning", "zh": "选项 | 默认值 | 单位 | 含义"},
    "alerts": {"en": "alert | severity | what it says", "zh": "告警 | 级别 | 说明"},
}


def options(language: str) -> str:
    """Every option, as `service.config` declares it."""
    rows = []
    for option in config.options():
        name, facts = config.env_name(option), option.metadata
        meaning = OPTIONS_ZH.get(name, facts["doc"]) if language == "zh" else facts["doc"]
        default = f"`{facts['default']}`" if facts["default"] else "–"
        rows.append(f"`{name}` | {default} | {facts['unit'].replace('|', ' / ')} | {meaning}")
    return _table(HEADS["options"][language], rows)


def alerts(language: str) -> str:
    """Every alert, with the page that says what to do."""
    rows = []
    for rule in _alerts():
        link = "runbooks/" + rule["annotations"]["runbook_url"].rpartition("/")[2]
        summary = re.sub(r"{{.*?}}", "…", rule["annotations"][f"summary_{language}"])
        rows.append(f"[{rule['alert']}]({link}) | {rule['labels']['severity']} | {summary}")
    return _table(HEADS["alerts"][language], list(dict.fromkeys(rows)))


def promise(language: str) -> str:
    """What a 202 is worth, as a quotation."""
    return f"> {PROMISE_ZH if language == 'zh' else PROMISE}"


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def _table(head: str, rows: list[str]) -> str:
    line = "|".join("---" for _ in head.split("|"))
    return "\n".join(f"| {row} |" for row in (head, line, *rows))


PARTS = {"options": options, "alerts": alerts, "promise": promise}
