"""`make registry`: the registry's files, taken by a real one (Apicurio, by the interface of Confluent and Karapace).

It is no part of `make test`: 160 MB are fetched once. It listens on loopback and keeps nothing.
"""

from __future__ import annotations

import copy
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from deploy.kafka.broker import cache, java
from tests.broker import free_port
from tests.gridgov import die_with_parent, until

VERSION = "3.3.3"
GENERATED = Path(__file__).parents[2] / "schemas" / "generated"
LINES = (GENERATED / "registry.subjects.txt").read_text(encoding="utf-8").splitlines()
SUBJECTS = dict(line.split() for line in LINES)  # to the file of their version
BODIES = {file: json.loads((GENERATED / file).read_bytes()) for file in SUBJECTS.values()}
BODY = BODIES["registry.version.json"]
CONFIG = json.loads((GENERATED / "registry.config.json").read_bytes())
HTTP = urllib3.PoolManager(retries=False, timeout=60)


def program() -> Path:
    """The registry, unpacked into the cache of the broker's jars."""
    from jgo.maven import MavenContext

    home = cache() / f"apicurio-{VERSION}"
    if not (home / "quarkus-run.jar").exists():
        context = MavenContext(repo_cache=cache() / "m2")
        component = context.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
        with tarfile.open(component.artifact("all", "tar.gz").resolve()) as archive:
            archive.extractall(home, filter="data")
    return home


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a running registry's Confluent interface is."""
    home, port, management = program(), free_port(), free_port()
    settings = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": management,
    }
    options = [f"-D{name}={value}" for name, value in settings.items()]
    with (tmp_path_factory.mktemp("registry") / "log").open("wb") as log:
        process = subprocess.Popen(
            [java(), "-Xmx512m", "-XX:+UseSerialGC", *options, "-jar", "quarkus-run.jar"],
            cwd=home,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        until(lambda: HTTP.request("GET", f"{url}/subjects").status == 200, "the registry answers", seconds=90)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def call(method: str, url: str, body: Any = None) -> tuple[int, Any]:
    media = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    answer = HTTP.request(method, url, body=None if body is None else json.dumps(body), headers=media)
    return answer.status, answer.json()


@pytest.fixture(scope="module")
def registered(registry: str) -> str:
    """The same, once every topic has its entry."""
    for subject, file in SUBJECTS.items():
        assert call("POST", f"{registry}/subjects/{subject}/versions", BODIES[file])[0] == 200
        assert call("PUT", f"{registry}/config/{subject}", CONFIG)[0] == 200
    return registry


def test_topics_of_reports_have_one_schema_and_all_one_level(registered: str) -> None:
    assert sorted(call("GET", f"{registered}/subjects")[1]) == sorted(SUBJECTS)
    ids: dict[str, set[int]] = {}
    for subject, file in SUBJECTS.items():
        latest = call("GET", f"{registered}/subjects/{subject}/versions/latest")[1]
        ids.setdefault(file, set()).add(latest["id"])
        assert json.loads(latest["schema"]) == json.loads(BODIES[file]["schema"])
        assert call("GET", f"{registered}/config/{subject}")[1]["compatibilityLevel"] == CONFIG["compatibility"]
    assert [len(found) for found in ids.values()] == [1, 1]


def test_telling_it_again_changes_nothing(registered: str) -> None:
    for subject, file in SUBJECTS.items():
        assert call("POST", f"{registered}/subjects/{subject}/versions", BODIES[file])[0] == 200
        assert call("GET", f"{registered}/subjects/{subject}/versions") == (200, [1])


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], int]] = {
    "a field more": (lambda s: s["properties"].update(unit={"type": "string"}), 200),
    "a field gone": (lambda s: (s["properties"].pop("received_at"), s["required"].remove("received_at")), 409),
    "always there, optional now": (lambda s: s["required"].remove("flags"), 409),
    "another type": (lambda s: s["properties"].update(occurred_at={"type": "integer"}), 409),
    "a new word in a closed list": (lambda s: s["properties"]["stage"]["enum"].append("merged"), 409),
    "longer texts": (lambda s: s["properties"]["description"].update(maxLength=9000), 409),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_judges_as_our_rules_do(registered: str, what: str) -> None:
    change, status = CHANGES[what]
    schema = copy.deepcopy(json.loads(BODY["schema"]))
    change(schema)
    subject = f"{what.replace(' ', '-')}-value"
    assert call("POST", f"{registered}/subjects/{subject}/versions", BODY)[0] == 200
    assert call("PUT", f"{registered}/config/{subject}", CONFIG)[0] == 200
    later = BODY | {"schema": json.dumps(schema)}
    assert call("POST", f"{registered}/subjects/{subject}/versions", later)[0] == status
