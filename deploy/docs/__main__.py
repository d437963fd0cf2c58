"""Builds the pages: `python -m deploy.docs [DIRECTORY]`, by default service/docs/site, from where they are served."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SITE = ROOT / "service" / "docs" / "site"
LANGUAGES = ("zh", "en")
# What nobody asks for: sources of scripts, stemmers of other languages, a page for web hosts.
LEFT_OUT = ("**/*.map", "**/lunr/**/*.js", "404.html", "sitemap.xml.gz")
KEPT = {"lunr.stemmer.support.min.js", "lunr.zh.min.js"}


def main(arguments: Sequence[str]) -> int:
    """Writes a directory for each language. Raises what MkDocs raises when a link leads nowhere."""
    target = Path(arguments[0]).absolute() if arguments else SITE
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("jieba").setLevel(logging.WARNING)
    os.chdir(ROOT)  # snippets are named from here
    shutil.rmtree(target, ignore_errors=True)
    for language in LANGUAGES:
        build(load_config(str(HERE / f"{language}.yml"), site_dir=str(target / language)))
        for pattern in LEFT_OUT:
            for path in list((target / language).glob(pattern)):
                if path.name not in KEPT:
                    path.unlink()
    (target / ".done").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
