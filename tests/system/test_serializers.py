"""One report, as the serializers and HTTP clients of real platforms write it: it must be one report to us too.

Whatever they make of what is not there (null, "", an object of nothings), of a time, of the end of a line, and whether
they announce a length or stream: each is the repeat of the first. Another fingerprint would be a 409.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3

from deploy.kafka.broker import JarSet, java, prepare_set
from tests.gridgov import Gridgov

SOURCES = Path(__file__).parent / "serializers"
JARS = JarSet(
    name="serializers",
    coordinates=(
        "com.fasterxml.jackson.core:jackson-databind:2.21.7",
        "com.google.code.gson:gson:2.13.2",
        "org.eclipse.jdt:ecj:3.42.0",  # a compiler: the Java of the wheel has none
    ),
    sha256="ba5c3bbbaa55b2be2d61c1d6f12db60cbbdfb82b2866e1c9602ea8d5835efd5f",
)
FIRST: dict[str, Any] = {
    "report_id": "r-serialized",
    "case_id": "c-serialized",
    "kind": "repair",
    "category": "0211",
    "stage": "reported",
    "occurred_at": "2020-11-04T08:00:00+08:00",
    "location": {"address": "杨树浦路 × 秦皇岛路"},
    "description": "两根立柱\n已更换",
    "attachments": [{"url": "https://img.example.cn/1.jpg"}],
}


@pytest.fixture(scope="module")
def first(web: Gridgov) -> str:
    """When the report was received that says only what there is to say."""
    status, receipt, _ = web.post(FIRST)
    assert (status, receipt["duplicate"]) == (202, False)
    return str(receipt["received_at"])


def program(name: str, package: str) -> str:
    """A program of this machine. A test that was skipped proves nothing: it fails without."""
    found = shutil.which(name)
    assert found, f"no {name} here; `sh deploy/packages.sh test` installs {package}"
    return found


def run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False, env={**os.environ, **env}
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}\n{done.stderr}"
    return done.stdout


def one_and_the_same(first: str, output: str, *, least: int) -> None:
    """Every answer that was noted is the receipt of the first, marked as a repeat; in a batch, every item's is."""
    told = [json.loads(line) for line in output.splitlines()]
    assert len(told) >= least
    assert [one for one in told if not is_repeat(one, first)] == []


def is_repeat(one: Mapping[str, Any], first: str) -> bool:
    answer = json.loads(one["answer"])
    items = answer.get("results", [answer])
    return one["status"] == 202 and all(item["duplicate"] and item.get("received_at", first) == first for item in items)


def test_java(web: Gridgov, first: str, tmp_path: Path) -> None:
    """Jackson with its defaults, Gson that writes nulls; the two clients of the JDK."""
    jars = prepare_set(JARS)
    [compiler] = jars.glob("ecj-*.jar")
    path = ":".join(map(str, jars.glob("*.jar")))
    how = ("-17", "-proc:none", "-encoding", "UTF-8", "-cp", path, "-d", tmp_path)
    run(java(), "-jar", compiler, *how, SOURCES / "Sender.java")
    output = run(java(), "-Dstdout.encoding=UTF-8", "-cp", f"{path}:{tmp_path}", "Sender", web.url)
    one_and_the_same(first, output, least=29)


def test_go(web: Gridgov, first: str) -> None:
    output = run(
        program("go", "golang-go"), "run", SOURCES / "sender.go", web.url, GO111MODULE="off", GOTOOLCHAIN="local"
    )
    one_and_the_same(first, output, least=4)


def test_node(web: Gridgov, first: str) -> None:
    one_and_the_same(first, run(program("node", "nodejs"), SOURCES / "sender.mjs", web.url), least=5)


PYTHON: dict[str, Any] = FIRST | {
    "location": FIRST["location"] | dict.fromkeys(("street_code", "grid_code", "component_id", "x", "y", "crs")),
    "attachments": [FIRST["attachments"][0] | {"usage": None, "media": ""}],
    "description": "两根立柱\r\n已更换",
    "campaign": {"name": "", "phase": None, "level": ""},
    **dict.fromkeys(("source", "source_name", "supervision", "handler", "reporter", "extra")),
}


def pieces(value: Any) -> Iterator[bytes]:
    """As json writes it bit by bit."""
    yield from (piece.encode() for piece in json.JSONEncoder().iterencode(value))


@pytest.mark.parametrize(("path", "value"), [("/v1/reports", PYTHON), ("/v1/reports/batch", [PYTHON, PYTHON])])
def test_python(web: Gridgov, first: str, path: str, value: Any) -> None:
    """json; urllib3 as requests uses it, http.client; bytes and generators."""
    headers = {"Content-Type": "application/json"}
    told = []
    with urllib3.PoolManager() as pool:
        for how, body in (("announced", json.dumps(value).encode()), ("streamed", pieces(value))):
            answer = pool.request("POST", web.url + path, body=body, headers=headers)
            told.append({"how": f"urllib3, {how}", "status": answer.status, "answer": answer.data.decode()})
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)
    connection.request("POST", path, pieces(value), headers, encode_chunked=True)
    plain = connection.getresponse()
    told.append({"how": "http.client, streamed", "status": plain.status, "answer": plain.read().decode()})
    connection.close()
    one_and_the_same(first, "\n".join(map(json.dumps, told)), least=3)
