"""`make run` works wherever a person's home is, and says and does all in that place."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import ODD_NAME, free_port
from tests.gridgov import Gridgov, die_with_parent, report

ROOT = Path(__file__).parents[2]
DATA = "-数据 'of' $1"  # relative to the checkout, and it looks like an option


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Gridgov]:
    """A gridgov that `make run` starts in a checkout of an odd name, on a machine whose locale is not set."""
    checkout = tmp_path / ODD_NAME
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    (checkout / "deploy").symlink_to(ROOT / "deploy")
    gridgov = Gridgov(checkout / DATA, f"127.0.0.1:{free_port()}")
    env = {name: value for name, value in gridgov.environment().items() if not name.startswith(("LC_", "LANG"))}
    own = {"GRIDGOV_DATA_DIR": DATA, "KAFKA_BOOTSTRAP_SERVERS": "", "OWN_KAFKA_PORT": gridgov.kafka.rpartition(":")[2]}
    with (tmp_path / "terminal").open("wb") as terminal:
        gridgov.processes.append(
            subprocess.Popen(
                ["sh", "deploy/run.sh"],
                cwd=checkout,
                env=env | own,
                stdout=terminal,
                stderr=terminal,
                preexec_fn=die_with_parent,
            )
        )
    try:
        yield gridgov.ready()
    finally:
        gridgov.stop()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_reports_reach_the_broker_of_its_own_and_nothing_appears_elsewhere(odd: Gridgov, tmp_path: Path) -> None:
    assert odd.post(report(1))[0] == 202
    assert odd.settled()["settled"] == 1
    assert [record["value"]["report_id"] for record in odd.consumed()] == ["r-1"]

    [run] = odd.processes
    run.send_signal(signal.SIGINT)

    assert run.wait(30) == 0
    assert names(tmp_path) == {ODD_NAME, "terminal"}
    assert names(odd.data_dir.parent) == {DATA, ".venv", "deploy"}
    assert names(odd.data_dir) > {"journal.sqlite3", "kafka"}
    assert (odd.data_dir / "kafka" / "data" / "meta.properties").is_file()
