"""Writes the Grafana dashboards, one file per dashboard and language: `python -m deploy.grafana.dashboards [--check]`.

The names of categories and the promised times in the titles are the shipped catalogue's; a district with its own gives
its directory with `--catalogue` and writes anew. Grafana finds the files through `provisioning/`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.generated import keep
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
    """See `deploy.generated.keep`."""

    def texts(catalogue: Catalogue) -> dict[str, str]:
        return {path: encoded(made) for path, made in generated(catalogue)}

    return keep(DIRECTORY, "dashboards", texts, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
