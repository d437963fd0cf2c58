"""The published contract, read by the tools that others read it with: AsyncAPI's own parser, and ajv."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1] / "contract"
SCHEMAS = Path(__file__).parents[2] / "schemas"
SUBJECTS = (SCHEMAS / "generated" / "registry.subjects.txt").read_text(encoding="utf-8").splitlines()
TOPICS = sorted(subject.split()[0].removesuffix("-value") for subject in SUBJECTS)


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    """The locked npm packages; once for each lock."""
    lock, stamp = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        npm = shutil.which("npm")
        assert npm, "no npm here; `sh deploy/packages.sh test` installs it"
        run(npm, "ci", "--ignore-scripts", "--no-progress")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}\n{done.stderr}"
    return done.stdout


def read(schemas: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run("node", HERE / "check.mjs", schemas))
    return told


def test_others_read_it_as_it_is_meant() -> None:
    told = read(SCHEMAS)
    assert (told["asyncapi"]["problems"], sorted(told["asyncapi"]["topics"])) == ([], TOPICS)
    assert told["event"]
    assert told["valid"] == {path.name: True for path in (SCHEMAS / "examples" / "valid").glob("*.json")}
    inexpressible = {
        path.name
        for path in (SCHEMAS / "examples" / "invalid").glob("*.json")
        if not json.loads(path.read_bytes()).get("expressible", True)
    }
    assert {name for name, taken in told["invalid"].items() if taken} == inexpressible


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("#/components/messages/report", "#/components/messages/none", "invalid-ref"),
        ("type: string", "type: text", "type"),
    ],
    ids=["a reference that leads nowhere", "a schema that is none"],
)
def test_they_would_notice(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    """The control, with a report without its case beside it."""
    copied = Path(shutil.copytree(SCHEMAS, tmp_path / "schemas"))
    kafka = copied / "generated" / "asyncapi.yaml"
    kafka.write_text(kafka.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
    minimal = copied / "examples" / "valid" / "returned-minimal.json"
    minimal.write_bytes(minimal.read_bytes().replace(b'"case_id"', b'"case"'))
    seen = read(copied)
    assert any(told in problem for problem in seen["asyncapi"]["problems"]), seen["asyncapi"]["problems"]
    assert not seen["valid"]["returned-minimal.json"]
