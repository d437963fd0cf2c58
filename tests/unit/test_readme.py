"""The first screen says what the product does: the promise word for word, and every command there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from schemas.promise import PROMISE, PROMISE_ZH
from service import config
from service.cli.main import main

ROOT = Path(__file__).parents[2]


def quoted(text: str) -> str:
    """The block quotes of a page as one line."""
    return " ".join(line.removeprefix(">").strip() for line in text.splitlines() if line.startswith(">"))


@pytest.mark.parametrize(("page", "promise"), [("README.md", PROMISE), ("README.zh-CN.md", PROMISE_ZH)])
def test_the_promise_stands_on_the_first_screen_word_for_word(page: str, promise: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert quoted(text) == promise
    assert text.index(">") < 1500


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


def test_the_readme_or_the_changelog_names_every_command() -> None:
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "CHANGELOG.md"))
    assert [name for name in main.list_commands(click.Context(main)) if not re.search(rf"\b{name}\b", text)] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"run", "test"} <= set(named)
    for target in set(named):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_nothing_has_to_be_installed_before_the_two_commands(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [word for word in ("apt-get", "python3-venv", "iptables") if word in text] == []


def test_gridgov_config_explains_every_option() -> None:
    for option in config.options():
        assert option.metadata["doc"], option.name
