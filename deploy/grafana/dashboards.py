"""Writes the Grafana dashboards, one file per dashboard and language: `python -m deploy.grafana.dashboards [--check]`.

The names of categories and the promised times in the titles are the shipped catalogue's; a district with its own gives
its directory with `--catalogue` and writes anew. Grafana finds the files through `provisioning/`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.grafana.duty_wall import duty_wall
from deploy.grafana.kafka_journal import kafka_journal
from deploy.grafana.model import LANGUAGES, Json, Text, spoken
from deploy.grafana.service_health import service_health
from schemas.catalogue import Catalogue

DIRECTORY = Path(__file__).parent / "dashboards"
DASHBOARDS = {"duty-wall": duty_wall, "service-health": service_health, "kafka-journal": kafka_journal}  # by file


def generated(catalogue: Catalogue) -> Iterator[tuple[str, Json]]:
    """Path below `dashboards/` and JSON of each. The alerts link to the uids: the Chinese one has the plain one."""
    for name, build in DASHBOARDS.items():
        made = build(catalogue)
        for language in LANGUAGES:
            tags = ["gridgov", language]
            told: Json = spoken({**made, "tags": tags, "links": [{**_SIBLINGS, "tags": tags}]}, language)
            told["uid"] += "" if language == LANGUAGES[0] else f"-{language}"
            yield f"{language}/{name}.json", told


_SIBLINGS: Json = {
    "title": Text("其他大屏", "Other dashboards"),
    "type": "dashboards",
    "tags": [],
    "asDropdown": False,
    "icon": "external link",
    "includeVars": False,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "",
    "url": "",
}


def encoded(dashboard: Json) -> str:
    """As it is kept in the file."""
    return json.dumps(dashboard, ensure_ascii=False, indent=1) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write what is stale; with `--check` only name it and exit with 1 if there is any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file is stale")
    parser.add_argument("--catalogue", type=Path, help="the district's own catalogue (default: the shipped one)")
    given = parser.parse_args(arguments)
    wanted = {path: encoded(made) for path, made in generated(Catalogue.load(given.catalogue))}
    stale = [path for path, text in wanted.items() if _content(DIRECTORY / path) != text]
    for path in stale:
        if not given.check:
            (DIRECTORY / path).parent.mkdir(exist_ok=True)
            (DIRECTORY / path).write_text(wanted[path], encoding="utf-8")
        print(f"{'stale' if given.check else 'written'}: dashboards/{path}", file=sys.stderr)
    return int(given.check and bool(stale))


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
