"""A headless Chromium: what a page becomes in it, and what the page asks for. Imports nothing of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
)


@dataclass(frozen=True)
class Visit:
    """The page after its scripts ran, the URLs it asked for, and what Chromium had to say about it."""

    dom: str
    asked: set[str]
    complaints: list[str]


def visit(url: str, directory: Path, *more: str, budget: int = 30_000) -> Visit:
    """Open `url` in a browser that was never used before. `directory` must be empty, or is made.

    `budget` is in milliseconds of the page's own clock, which stands while it loads; `more` are options of Chromium's.
    """
    directory.mkdir(exist_ok=True)
    log = directory / "net-log.json"
    done = subprocess.run(
        [
            *(_program(), *FLAGS, f"--virtual-time-budget={budget}", *more),
            *(f"--user-data-dir={directory / 'profile'}", f"--log-net-log={log}", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line or "Refused to" in line]
    return Visit(done.stdout, _asked(json.loads(log.read_text(encoding="utf-8"))), complaints)


def _program() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("no Chromium here (sh deploy/packages.sh test)")
    return found


def _asked(log: dict[str, object]) -> set[str]:
    """What pages asked for. Chromium asks Google for this and that on its own account, without an initiator."""
    events: list[dict[str, dict[str, str]]] = log["events"]  # type: ignore[assignment]
    parameters = [event.get("params", {}) for event in events]
    return {each["url"] for each in parameters if each.get("initiator", "").startswith("http")}
