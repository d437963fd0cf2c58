"""The guide says the same in both languages, names only what exists, and says where each figure is from."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from deploy.docs import generated
from service import config
from service.cli.main import main
from tests.guide.pages import PAGES, ROOT, RUN, blocks, names

SITE = ROOT / "service" / "docs" / "site"
ALL = [(language, name) for language in ("zh", "en") for name in names()]
FIGURE = re.compile(r"\d[\d,.]*(?:/s| ms| µs)")


def page(language: str, name: str) -> str:
    return (PAGES / language / f"{name}.md").read_text(encoding="utf-8")


def prose(text: str) -> str:
    """The page without its code."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def test_both_languages_have_the_same_pages_with_the_same_headings() -> None:
    for one in ("zh", "en"):
        assert {path.stem for path in (PAGES / one).glob("*.md")} == set(names())
    for name in names():
        levels = [
            re.findall(r"^#+ ", re.sub(r"```.*?```", "", page(one, name), flags=re.S), re.M) for one in ("zh", "en")
        ]
        assert levels[0] == levels[1], name


@pytest.mark.parametrize("name", names())
def test_both_languages_show_the_same_commands(name: str) -> None:
    zh, en = ([(one.language, one.commands, one.why) for one in blocks(language, name)] for language in ("zh", "en"))
    assert zh == en


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    code = [block for name in names() for block in blocks("en", name) if block.language in RUN]
    left_out = [block for block in code if block.why]
    assert len(left_out) <= 6
    assert len(code) >= 4 * len(left_out)
    for block in left_out:
        for path in re.findall(r"tests/[\w/]+\.py|deploy/[\w/]+\.sh", block.why or ""):
            assert (ROOT / path).exists(), block.why


def test_every_option_is_explained_in_both_languages() -> None:
    options = {config.env_name(option) for option in config.options()}
    assert options - generated.OPTIONS_ZH.keys() == set(), "say what it means in deploy/docs/options.zh.toml"
    for language in ("zh", "en"):
        assert all(f"`{name}`" in generated.options(language) for name in options)
    assert all(re.search(r"[\u4e00-\u9fff]", meaning) for meaning in generated.OPTIONS_ZH.values())


def test_every_alert_leads_to_its_runbook() -> None:
    rules = set(re.findall(r"- alert: (\w+)", generated.RULES.read_text(encoding="utf-8")))
    links = dict(re.findall(r"\[(\w+)\]\(runbooks/([\w.#]+)\)", generated.alerts("en")))
    assert links.keys() == rules
    assert all((generated.RUNBOOKS / link.partition("#")[0]).exists() for link in links.values())


@pytest.mark.parametrize(("language", "name"), ALL)
def test_a_page_names_only_commands_options_and_targets_that_exist(language: str, name: str) -> None:
    code = "\n".join([*re.findall(r"`([^`\n]+)`", page(language, name)), *(one.text for one in blocks(language, name))])
    commands = main.list_commands(click.Context(main))
    assert set(re.findall(r"^(?:\w+=\S+ )*gridgov ([a-z]+)\b", code, re.MULTILINE)) <= set(commands)
    options = {config.env_name(option) for option in config.options()}
    assert set(re.findall(r"\bGRIDGOV_[A-Z_]+\b", code)) <= options
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)", code):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"(?<![\w/.])((?:tests|deploy|schemas)/[\w/.*-]+\w)", code):
        assert list(ROOT.glob(path)) or (ROOT / path).exists(), path


@pytest.mark.parametrize("path", [*PAGES.rglob("*.md")], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_page_with_measured_figures_names_the_command(path: Path) -> None:
    said = prose(path.read_text(encoding="utf-8"))
    if FIGURE.search(said):
        assert re.search(r"`make (?:bench|faults)", said), FIGURE.findall(said)


def test_what_is_served_is_there_and_loads_nothing_from_elsewhere() -> None:
    assert (SITE / ".done").exists(), "make docs"
    for html in SITE.rglob("*.html"):
        text = html.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//', text) == [], html
    assert {path.name for path in SITE.iterdir()} == {"zh", "en", ".done"}
    for language, name in ALL:
        assert (SITE / language / f"{name}.html").exists()
