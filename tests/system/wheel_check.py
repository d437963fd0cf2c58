"""The wheel works where there is no checkout. `.ci/run` runs this after `make wheel`; pytest does not collect it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import gridgov as harness
from tests.gridgov import Gridgov, report

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory outside the checkout, worked in; its `venv` holds the wheel and what the wheel says it needs."""
    directory = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.delenv("PYTHONPATH", raising=False)
        patch.setattr(harness, "GRIDGOV", str(directory / "venv" / "bin" / "gridgov"))
        install(directory)
        yield directory


def install(directory: Path) -> None:
    """Not the whole lock: a dependency that only the developers' tools bring would not be missed."""
    wheels = sorted((ROOT / "dist").glob("gridgov-*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    assert wheels, "no wheel in dist/: make wheel"
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    (directory / "pins.txt").write_text("\n".join(pins), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    python(directory, "-m", "pip", "install", "--quiet", "--constraint", "pins.txt", str(wheels[-1]))


def python(directory: Path, *arguments: str) -> str:
    """Run the virtual environment's Python; what it printed."""
    command = [str(directory / "venv" / "bin" / "python"), *arguments]
    return subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def web(elsewhere: Path) -> Iterator[Gridgov]:
    """The installed web process."""
    installed = Gridgov(elsewhere / "var", "127.0.0.1:9")
    try:
        installed.start("web")
        yield installed.ready()
    finally:
        installed.stop()


def test_it_is_complete_and_not_the_checkout(elsewhere: Path) -> None:
    program = "import sys, json, schemas, service; print(json.dumps([schemas.__file__, service.__file__, *sys.path]))"
    places = json.loads(python(elsewhere, "-c", program))
    assert all(place.startswith(str(elsewhere)) for place in places[:2])
    assert [place for place in places if place.startswith(str(ROOT) + os.sep)] == []
    python(elsewhere, "-m", "pip", "check")


def test_the_command_line(elsewhere: Path) -> None:
    installed = Gridgov(elsewhere / "unused", "127.0.0.1:9")
    assert "replay" in installed.run("--help", check=True).stdout
    assert "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9" in installed.run("config", check=True).stdout


def test_the_page_and_its_files(web: Gridgov) -> None:
    page = web.http.request("GET", f"{web.url}/docs")
    assert page.status == 200
    files = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.data.decode())
    assert len(files) == 6  # the guide in both languages among them
    for name in files:
        answer = web.http.request("GET", f"{web.url}/{name}")
        assert (answer.status, len(answer.data) > 50) == (200, True), name


def test_the_contract(web: Gridgov) -> None:
    generated = ROOT / "schemas" / "generated"
    assert web.get("/openapi.json") == (200, json.loads((generated / "openapi.json").read_bytes()))
    program = (
        "from importlib.resources import files; print(sorted(p.name for p in files('schemas.generated').iterdir()))"
    )
    shipped = python(web.data_dir.parent, "-c", program)
    assert [
        path.name for path in generated.iterdir() if path.suffix in (".json", ".yaml") and path.name not in shipped
    ] == []


def test_the_catalogue(web: Gridgov) -> None:
    status, catalogue = web.get("/v1/catalogue")
    assert status == 200
    assert sum(len(kind["majors"]) for kind in catalogue["kinds"]) == 13
    assert sum(len(kind["categories"]) for kind in catalogue["kinds"]) == 139


def test_a_report_is_accepted(web: Gridgov) -> None:
    assert web.post(report("wheel"))[0] == 202


def test_the_consumer_installs_alone_into_an_environment_of_its_own(elsewhere: Path) -> None:
    """As a sub-centre does: from its directory, with what it says that it needs, and that is kafka-python only."""
    alone, source = elsewhere / "alone", elsewhere / "source"
    shutil.copytree(
        ROOT / "service" / "consumer", source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    subprocess.run([sys.executable, "-m", "venv", alone], check=True)
    python = alone / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--constraint", elsewhere / "pins.txt", source], check=True
    )
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, stdout=subprocess.PIPE)
    assert {one["name"] for one in json.loads(listed.stdout)} - {"pip", "setuptools", "wheel"} == {
        "gridgov-consumer",
        "kafka-python",
    }
    program = (
        "from gridgov_consumer import Database, Reader;"
        "Reader({}, Database.at('sqlite:///x.db'), print, group='g', prepare=exit).open()"
    )
    subprocess.run([python, "-c", program], cwd=elsewhere, check=True)
