"""`make look`: draws every dashboard with Grafana's own components (npm: @grafana/ui), to be looked at.

python -m tests.look [WORD]     only the pictures whose name holds the word, such as `zh`, `duty-wall` or `bad`

Two invented days, one bad and one calm, are put into a real Prometheus; every query of every panel is asked of it as
Grafana would; headless Chromium draws the answers into `var/look/{zh,en}-{dashboard}-{bad,calm}.png`. Needs what
`sh deploy/packages.sh look` installs, and npm's registry the first time.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from deploy.demo.boards import chosen
from deploy.demo.bundle import BUNDLE, build
from tests.integration.day import END, HOUR, KAFKA_AWAY, MINUTE, START, Day, Span, calm, invented
from tests.integration.exposition import scraped
from tests.prometheus import Labels, Prometheus
from tests.system.chromium import NAMES

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
PICTURES = ROOT / "var" / "look"
WIDTH = 1600  # px: a laptop's; narrower than a wall, so that what is cut there shows here
STEP = 2 * MINUTE  # what Grafana takes for a day in a panel of half that width
CELL, GAP = 30, 8  # px: as in panels.jsx
NEVER = (END + 1.0, END + 1.0)
DURING_OUTAGE = START + 10 * HOUR + 35 * MINUTE
LATE = START + 22 * HOUR
CHROMIUM = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",  # milliseconds of the page's own clock, which stands while it loads
)


class Shown(NamedTuple):
    """A day to look at, and when: the wall and Kafka in the worst moment, the day's sums towards its end."""

    name: str
    day: Day
    away: Span

    def at(self, dashboard: str) -> int:
        return LATE if dashboard == "service-health" else DURING_OUTAGE


class Picture(NamedTuple):
    """One dashboard in one language on one day."""

    language: str
    dashboard: str
    shown: Shown

    @property
    def name(self) -> str:
        return f"{self.language}-{self.dashboard}-{self.shown.name}"


def main(words: list[str]) -> None:
    wanted = [one for one in every_picture() if all(word in one.name for word in words)]
    if not wanted:
        sys.exit(f"no picture has all of these in its name: {' '.join(words)}")
    chromium = browser()
    build()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        known: dict[str, Prometheus] = {}
        for one in wanted:
            if one.shown.name not in known:
                known[one.shown.name] = running.enter_context(prometheus(one.shown, Path(scratch)))
            draw(one, known[one.shown.name], chromium, Path(scratch) / one.name)
            print((PICTURES / f"{one.name}.png").relative_to(ROOT), flush=True)


def every_picture() -> Iterator[Picture]:
    for shown in (Shown("bad", invented(), KAFKA_AWAY), Shown("calm", calm(), NEVER)):
        for path in sorted(DASHBOARDS.glob("*/*.json")):
            yield Picture(path.parent.name, path.stem, shown)


def browser() -> str:
    """The path of Chromium; ends with what to do when it is missing."""
    return next(filter(None, map(shutil.which, NAMES)), None) or sys.exit(
        "no Chromium here: sh deploy/packages.sh look"
    )


def prometheus(shown: Shown, scratch: Path) -> Prometheus:
    """One that holds the day and enough of the day before to fill every panel."""
    print(f"playing the {shown.name} day", flush=True)
    directory = scratch / shown.name
    directory.mkdir()
    recorder = scraped(shown.day, directory / "service", since=START - 14 * HOUR, away=shown.away)
    recorder.write(directory / "day.txt")
    return Prometheus(directory / "prometheus", directory / "day.txt")


def draw(picture: Picture, source: Prometheus, chromium: str, scratch: Path) -> None:
    """Writes the picture. Fails when the page had an error to tell."""
    scratch.mkdir()
    path = DASHBOARDS / picture.language / f"{picture.dashboard}.json"
    board = chosen(json.loads(path.read_text(encoding="utf-8")))
    look = asked(board, source, picture.shown.at(picture.dashboard))
    page = scratch / "page.html"
    page.write_text(html(picture, look), encoding="utf-8")
    height = GAP + (GAP + CELL) * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    done = subprocess.run(
        [
            *(chromium, *CHROMIUM, f"--user-data-dir={scratch / 'profile'}", f"--window-size={WIDTH},{height}"),
            *(f"--screenshot={PICTURES / f'{picture.name}.png'}", page.as_uri()),
        ],
        env={**os.environ, "TZ": "Asia/Shanghai"},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    if complaints := [line for line in done.stderr.splitlines() if ":CONSOLE" in line and "look:" in line]:
        sys.exit("\n".join([f"{picture.name} could not be drawn:", *complaints]))


def html(picture: Picture, look: dict[str, Any]) -> str:
    """The page around the bundle."""
    told = json.dumps({**look, "width": WIDTH}, ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
    base = BUNDLE.as_uri()
    return (
        f'<!doctype html><html lang="{picture.language}"><meta charset="utf-8">'
        f'<link rel="stylesheet" href="{base}/look.css"><body style="margin:0"><div id="root"></div>'
        f'<script>window.__grafana_public_path__ = "{base}/public/"; window.LOOK = {told}</script>'
        f'<script src="{base}/look.js"></script></body></html>'
    )


# ---- what Grafana does before it draws ----


def asked(board: dict[str, Any], source: Prometheus, at: int) -> dict[str, Any]:
    """The board with the answers to its queries; times in milliseconds."""
    results = {
        f"{panel['id']}.{target['refId']}": answer(panel, target, source, at)
        for panel in board["panels"]
        for target in panel.get("targets", [])
    }
    return {"board": board, "results": results, "from": (at - 24 * HOUR) * 1000, "to": at * 1000}


def answer(panel: dict[str, Any], target: dict[str, Any], source: Prometheus, at: int) -> list[dict[str, Any]]:
    """The series of one query; a range begins and ends at whole steps, in UTC."""
    if target["instant"]:
        return [series(labels, {at: value}) for labels, value in source.now(target["expr"], at).items()]
    step = HOUR if panel.get("interval") == "1h" else STEP
    start, end = ((when // step) * step for when in (at - 24 * HOUR, at))
    found = source.over(target["expr"], start, end, step)
    return [{**series(labels, points), "step": step * 1000} for labels, points in found.items()]


def series(labels: Labels, points: dict[float, float] | dict[int, float]) -> dict[str, Any]:
    return {
        "labels": dict(labels),
        "times": [round(at * 1000) for at in points],
        "values": [value if math.isfinite(value) else None for value in points.values()],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
