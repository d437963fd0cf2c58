"""The guide (deploy/docs): every command in it is run against a real gridgov, and a browser shows it offline.

The pages name the usual ports and places; here they are those of the test. Both languages have the same code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from deploy.kafka.broker import java, prepare_set
from tests.broker import Kafka
from tests.gridgov import GRIDGOV, Gridgov, report, until
from tests.guide.pages import ROOT, RUN, Block, blocks, names
from tests.system.chromium import visit
from tests.system.test_serializers import JARS

OWN = {"security", "operating"}  # pages that change who may do what, or stop and start
ELSEWHERE = {"replicas"}  # tests/system/test_restore.py, on a PostgreSQL


class Reader:
    """Somebody who follows the guide in a directory of their own, beside a running gridgov."""

    def __init__(self, gridgov: Gridgov, home: Path) -> None:
        self.gridgov, self.home = gridgov, home
        for name in ("deploy", "schemas"):
            (home / name).symlink_to(ROOT / name)
        self._places = {
            "127.0.0.1:8080": f"127.0.0.1:{gridgov.port}",
            "127.0.0.1:9464": f"127.0.0.1:{gridgov.web_metrics}",
            "127.0.0.1:9465": f"127.0.0.1:{gridgov.relay_metrics}",
            "127.0.0.1:9092": gridgov.kafka,
            "/var/lib/gridgov": str(gridgov.data_dir),
        }
        path = (str(ROOT / "tests" / "guide"), str(Path(GRIDGOV).parent), str(java().parent), os.environ["PATH"])
        self.environment = gridgov.environment() | {
            "PATH": os.pathsep.join(path),
            "UNITS": str(home),
            "KUBECTL_STATE": str(home / "cluster"),
            "WEB": f"{gridgov.url}/readyz",
            "RELAY": f"http://127.0.0.1:{gridgov.relay_metrics}/readyz",
        }

    def follow(self, block: Block) -> None:
        """Do what the block says: run it, or save the program that it shows."""
        text = self.here(block.text)
        if block.file:
            (self.home / block.file).write_text(text, encoding="utf-8")
        if block.language == "java":
            [compiler] = prepare_set(JARS).glob("ecj-*.jar")
            self.run("java", "-jar", str(compiler), "-17", "-proc:none", "-encoding", "UTF-8", str(block.file))
        if block.language == "sh":
            self.run("bash", "-euo", "pipefail", "-c", text)

    def here(self, text: str) -> str:
        for usual, ours in self._places.items():
            text = text.replace(usual, ours)
        return text

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command[-1]}\n--- {done.stdout}\n--- {done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """End what the stand-in for systemd has started."""
        for pid_file in self.home.glob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(pid_file.read_text()), 15)


@pytest.fixture(scope="module")
def beside(shared: Gridgov, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader beside a gridgov that goes on from page to page."""
    return Reader(shared, tmp_path_factory.mktemp("reader"))


@pytest.fixture
def operator(kafka: Kafka, tmp_path: Path) -> Iterator[Reader]:
    """A reader with a gridgov of their own, under what stands in for systemd; nothing runs yet."""
    home = tmp_path / "home"
    home.mkdir()
    reader = Reader(Gridgov(tmp_path / "var", kafka.bootstrap), home)
    try:
        yield reader
    finally:
        reader.stop()


@pytest.mark.parametrize("name", [name for name in names() if name not in OWN | ELSEWHERE])
def test_every_command_does_what_its_page_says(beside: Reader, name: str) -> None:
    for block in runnable(name):
        beside.follow(block)


@pytest.mark.parametrize("name", sorted(OWN))
def test_every_command_of_an_operator(operator: Reader, name: str) -> None:
    operator.run("systemctl", "start", "gridgov-web", "gridgov-relay")
    operator.gridgov.post(report(f"before-{name}"))
    for block in runnable(name):
        operator.follow(block)
    seen = until(lambda: [one for one in consumed_ids(operator) if one == f"r-before-{name}"], "it is in Kafka")
    assert (len(seen), operator.gridgov.status()["mismatch"]) == (1, 0)


def consumed_ids(operator: Reader) -> list[str]:
    return [record["value"]["report_id"] for record in operator.gridgov.consumed()]


def runnable(name: str) -> list[Block]:
    return [block for block in blocks("en", name) if block.language in RUN and not block.why]


def test_the_senders_outlast_a_service_that_is_away(operator: Reader) -> None:
    """What the page promises of its programs: they wait, and send the same again."""
    for block in runnable("sending"):
        if block.file:
            operator.follow(block)
    senders = [
        subprocess.Popen(
            command, cwd=operator.home, env=operator.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for command in ([sys.executable, "send.py"], ["java", "-cp", ".", "Send"])
    ]
    for number, sender in enumerate(senders):
        assert sender.stdin
        sender.stdin.write(orjson.dumps(report(f"patient-{number}")))
        sender.stdin.close()
    time.sleep(2)
    assert [sender.poll() for sender in senders] == [None, None]
    operator.run("systemctl", "start", "gridgov-web")
    for number, sender in enumerate(senders):
        assert sender.stdout
        with sender.stdout:
            receipt = orjson.loads(sender.stdout.read())
        assert (sender.wait(60), receipt["report_id"], receipt["duplicate"]) == (0, f"r-patient-{number}", False)


@pytest.mark.parametrize("page", ["zh/index", "en/sending"])
def test_a_browser_shows_it_offline(shared: Gridgov, tmp_path: Path, page: str) -> None:
    seen = visit(f"{shared.url}/docs/{page}.html", tmp_path / "chromium")
    assert seen.complaints == []
    assert [url for url in seen.asked if not url.startswith(f"{shared.url}/docs/")] == []
    assert any("bundle" in url for url in seen.asked)
    assert "<h1" in seen.dom
