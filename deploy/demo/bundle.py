"""The page that draws dashboards, built from `page/` with the locked packages of npm into `page/bundle/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PAGE = Path(__file__).parent / "page"
BUNDLE = PAGE / "bundle"
MODULES = PAGE / "node_modules"
DONE = BUNDLE / ".done"
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-progress", "--loglevel=error")


def is_current() -> bool:
    """Whether it was built from what is there now."""
    sources = [*PAGE.glob("*.jsx"), *PAGE.glob("package*.json")]
    return DONE.exists() and all(DONE.stat().st_mtime >= source.stat().st_mtime for source in sources)


def build() -> None:
    """Build it, unless it is current. Raises CalledProcessError or OSError when npm fails, or is not there.

    Fonts and icons go where Grafana's components look for them.
    """
    if is_current():
        return
    installed = MODULES / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (PAGE / "package-lock.json").stat().st_mtime:
        print("page: fetching the locked npm packages (once; half a minute or more)", flush=True)
        _run(*INSTALL)
    _run("npm", "run", "--silent", "build")
    shutil.copytree(MODULES / "@grafana" / "ui" / "dist" / "public", BUNDLE / "public", dirs_exist_ok=True)
    fonts = BUNDLE / "public" / "fonts" / "inter"
    fonts.mkdir(parents=True, exist_ok=True)
    for weight, name in ((400, "Regular"), (500, "Medium")):
        file = MODULES / "@fontsource" / "inter" / "files" / f"inter-latin-{weight}-normal.woff2"
        shutil.copy(file, fonts / f"Inter-{name}.woff2")
    DONE.touch()


def _run(*command: str) -> None:
    subprocess.run(command, cwd=PAGE, check=True)


if __name__ == "__main__":
    build()
