"""PostgreSQL backed up and brought back to a moment, by the commands of the guide's page, with a gridgov on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.broker import free_port
from tests.gridgov import GRIDGOV, NO_KAFKA, Gridgov, alone, report, until
from tests.guide.pages import Block, blocks
from tests.postgresql import Postgresql, program


class Administrator:
    """Who follows the page: PostgreSQL's user for its programs, gridgov's for `gridgov`."""

    def __init__(self, server: Postgresql) -> None:
        self.server, self.restored, self.moment = server, free_port(), ""
        self.url = f"{server.url.removesuffix('/postgres')}/gridgov"
        self.new = f"{self.url.replace(f':{server.port}/', f':{self.restored}/')}_2"

    def follow(self, block: Block) -> None:
        settings = "-c unix_socket_directories= -c dynamic_shared_memory_type=mmap"  # as of the server's own
        text = block.text.replace("-o '-p 5433'", f"-o '-p 5433 {settings}'").replace("5433", str(self.restored))
        text = text.replace("/var/lib/postgresql", str(self.server.directory))
        self.run("bash", "-euo", "pipefail", "-c", text.replace("2020-11-04 10:00:00+08", self.moment))

    def run(self, *command: str) -> None:
        path = os.pathsep.join((str(Path(program("pg_ctl")).parent), str(Path(GRIDGOV).parent), os.environ["PATH"]))
        whose: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        env = {
            "PATH": path,
            "LC_ALL": "C.UTF-8",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": "sink",
            "PGPASSWORD": self.server.password,
            "PGDATABASE": "postgres",
            "RESTORED": self.new.rpartition("/")[0],
        }
        ours = "gridgov journal" in command[-1]  # the checkout may be closed to others
        done = subprocess.run(
            command,
            cwd="/",
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **({} if ours else whose),
        )
        assert done.returncode == 0, f"{command[-1]}\n--- {done.stdout}\n--- {done.stderr}"


@pytest.fixture
def administrator(postgresql: Postgresql) -> Iterator[Administrator]:
    made = Administrator(postgresql)
    try:
        yield made
    finally:
        with suppress(AssertionError):  # it never came so far
            made.run("pg_ctl", "-D", str(postgresql.directory / "restored"), "stop", "-m", "immediate")


def test_a_restored_moment_goes_on_as_a_new_journal(administrator: Administrator, tmp_path: Path) -> None:
    server = administrator.server
    archiving, backup, restore, move = (block for block in blocks("en", "replicas") if block.language == "sh")
    administrator.follow(archiving)
    server.stop()
    server.start()
    administrator.run("createdb", "gridgov")
    gridgov = Gridgov(tmp_path / "var", NO_KAFKA, {"GRIDGOV_JOURNAL": administrator.url})
    with alone(gridgov):
        assert gridgov.post(report("before"))[0] == 202
        administrator.follow(backup)
        assert gridgov.post(report("good"))[0] == 202
        administrator.moment = datetime.now(UTC).isoformat(sep=" ")
        assert gridgov.post(report("after"))[0] == 202
        old = gridgov.status()
    archived(server)

    administrator.follow(restore)
    administrator.follow(move)
    again = Gridgov(tmp_path / "again", NO_KAFKA, {"GRIDGOV_JOURNAL": administrator.new})
    with alone(again):
        new = again.status()
        assert new["journal_id"] != old["journal_id"]
        assert (new["accepted"], new["pending"], new["mismatch"]) == (2, 2, 0)
        known = {name: again.post(report(name))[1]["duplicate"] for name in ("before", "good", "after")}
    assert known == {"before": True, "good": True, "after": False}


def archived(server: Postgresql) -> None:
    """Wait until the archive has all that was written up to now."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        [(segment,)] = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchall()
    until((server.directory / "archive" / segment).exists, "the segment is archived")
