"""The guide's pages as a reader meets them: their code, in order, with what stands in the files that they include."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "deploy" / "docs"
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.M
)
RUN = ("sh", "python", "java")  # the languages of commands and programs; all else is shown, not run


class Block(NamedTuple):
    """A piece of code. `why` it is not run, if it is not; `file`, the program that it shows, if it shows one."""

    language: str
    text: str
    why: str | None
    file: str | None

    @property
    def commands(self) -> str:
        """Without what is said beside them."""
        return re.sub(r"[ \t]+# .*$", "", self.text, flags=re.MULTILINE)


def names() -> list[str]:
    """The pages, in the order in which they are read."""
    menu = (PAGES / "en.yml").read_text(encoding="utf-8")
    return re.findall(r"(\w+)\.md", menu)


def blocks(language: str, name: str) -> list[Block]:
    """The code of a page."""
    text = (PAGES / language / f"{name}.md").read_text(encoding="utf-8")
    return [_block(one["language"], one["text"], one["why"]) for one in FENCE.finditer(text)]


def _block(language: str, text: str, why: str | None) -> Block:
    if included := re.fullmatch(r'--8<-- "([^"]+)"\n', text):
        path = ROOT / included[1]
        return Block(language, path.read_text(encoding="utf-8"), why, path.name)
    return Block(language, text, why, None)
