"""MkDocs calls these: it puts in what is written elsewhere, and lays the runbooks beside the pages."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from deploy.docs.generated import PARTS, RUNBOOKS


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The runbooks are in both languages at once; both sites have them."""
    for page in sorted(RUNBOOKS.glob("*.md")):
        files.append(File.generated(config, f"runbooks/{page.name}", content=page.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, config: MkDocsConfig, **_: object) -> str:
    """`<!-- generated: NAME -->` stands for what `deploy.docs.generated` makes."""
    language = config.theme["language"]
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: PARTS[found[1]](language), markdown)
