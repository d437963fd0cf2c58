"""A real PostgreSQL for tests: a cluster of its own on loopback, run by whoever may (its programs refuse root)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from tests.broker import free_port
from tests.gridgov import die_with_parent, until

NOBODY = "nobody"
START_SECONDS = 60


class Postgresql:
    """Start it from a thread that outlives it; `remove` at the end. `url` has a password in it, as real ones do.

    Its directory is its own: those of pytest are closed to whoever runs it.
    """

    def __init__(self, primary: Postgresql | None = None) -> None:
        """With `primary`, a streaming standby of it."""
        self._primary = primary
        self.directory, self.port = Path(tempfile.mkdtemp(prefix="gridgov-postgresql-")), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {"user": NOBODY, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        self.password = "geheim-密码"

    @property
    def url(self) -> str:
        return f"postgresql://sink:geheim-%E5%AF%86%E7%A0%81@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and return when it answers; the first time on an empty cluster."""
        if self._process is not None and self._process.poll() is None:
            return
        data = self.directory / "data"
        if not data.exists():
            self._make(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "mmap",  # in its own directory: /dev/shm belongs to everybody
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", str(data), *words],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                **self._as,
            )
        until(self._answers, "PostgreSQL answers", seconds=START_SECONDS)

    def stop(self) -> None:
        """A clean and quick stop, that waits for no client."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """All its processes end at once; the next start recovers from its log."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    def remove(self) -> None:
        """Stop it; nothing is left."""
        self.stop()
        shutil.rmtree(self.directory)

    def promote(self) -> None:
        """Be the primary from now on."""
        with psycopg.connect(self.url) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)

    def _make(self, data: Path) -> None:
        if self._primary is not None:
            self._follow(self._primary, data)
            return
        secret = self.directory / "password"
        secret.write_text(self.password, encoding="utf-8")
        if self._as:
            for path in (self.directory, secret):
                shutil.chown(path, NOBODY)
        command = [program("initdb"), "-D", str(data), "-U", "sink", "-A", "scram-sha-256", f"--pwfile={secret}"]
        made = subprocess.run(
            [*command, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], capture_output=True, check=False, **self._as
        )
        assert made.returncode == 0, made.stderr.decode()

    def _follow(self, primary: Postgresql, data: Path) -> None:
        if self._as:
            shutil.chown(self.directory, NOBODY)
        where = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "sink"]
        made = subprocess.run(
            [program("pg_basebackup"), *where, "-D", str(data), "-R", "-X", "stream", "-c", "fast"],
            env={"PGPASSWORD": self.password, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            capture_output=True,
            check=False,
            **self._as,
        )
        assert made.returncode == 0, made.stderr.decode()

    def _answers(self) -> bool:
        ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


def unordered(url: str) -> None:
    """Take from a journal there what gives its seqs in the order of commits; for the controls."""
    with psycopg.connect(url, autocommit=True) as connection:
        [(text,)] = connection.execute("SELECT pg_get_functiondef('gridgov.accept'::regproc)").fetchall()
        for ours, loose in (
            ("SELECT seq INTO before FROM head FOR UPDATE;", "SELECT nextval('gridgov.loose') - 1 INTO before;"),
            ("UPDATE head", "used := 0; IF false THEN UPDATE head"),
            ("INTO used;", "INTO used; END IF;"),
        ):
            assert ours in text
            text = text.replace(ours, loose)
        connection.execute("CREATE SEQUENCE gridgov.loose START 2")
        connection.execute(text)


def installed() -> bool:
    """Whether this machine has one."""
    return _found("initdb") is not None


def program(name: str) -> str:
    """Where the newest PostgreSQL has it. AssertionError: there is none."""
    there = _found(name)
    assert there, f"no {name} here: sh deploy/packages.sh test"
    return there


def _found(name: str) -> str | None:
    """Debian keeps most of them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else shutil.which(name)
