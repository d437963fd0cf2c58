"""Keeps files that are made from the catalogue: what every `python -m deploy.… [--check]` that makes some does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from schemas.catalogue import Catalogue


def keep(
    directory: Path,
    name: str,
    made: Callable[[Catalogue], Mapping[str, str]],
    told: str | None,
    arguments: Sequence[str],
) -> int:
    """Write what is stale in `directory`; with `--check` only name it and exit with 1 if there is any.

    `made` gives the texts by path from there, `name` is the directory's in what is said, `told` the command's help.
    """
    parser = argparse.ArgumentParser(description=(told or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file is stale")
    parser.add_argument("--catalogue", type=Path, help="the district's own catalogue (default: the shipped one)")
    given = parser.parse_args(arguments)
    wanted = made(Catalogue.load(given.catalogue))
    stale = [path for path, text in wanted.items() if _content(directory / path) != text]
    for path in stale:
        if not given.check:
            (directory / path).parent.mkdir(exist_ok=True)
            (directory / path).write_text(wanted[path], encoding="utf-8")
        print(f"{'stale' if given.check else 'written'}: {name}/{path}", file=sys.stderr)
    return int(given.check and bool(stale))


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
