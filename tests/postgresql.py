"""A real PostgreSQL for tests: a cluster of its own on loopback, run by whoever may (its programs refuse root)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
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

    def __init__(
        self,
        primary: Postgresql | None = None,
        *,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """With `primary`, a streaming standby of it. `directory`: one that is there, and open to everybody's way in."""
        self._primary, self._settings = primary, settings or {}
        self.directory, self.port = directory or Path(tempfile.mkdtemp(prefix="gridgov-postgresql-")), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {"user": NOBODY, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        self.password = "geheim-密码"

    @property
    def url(self) -> str:
        return f"postgresql://sink:geheim-%E5%AF%86%E7%A0%81@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and return when it answers; the first time on an empty cluster."""
        if self.runs:
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
            "wal_retrieve_retry_interval": "250ms",  # a standby asks as often for a primary that is away
            **self._settings,
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

    def send(self, number: signal.Signals) -> None:
        """To every process of it: its children are no group of its own."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for one in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(one, number)

    def _end(self, how: signal.Signals) -> None:
        if self.runs:
            self.send(signal.SIGCONT)
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    @property
    def runs(self) -> bool:
        """Whether its first process does; it ends by itself where it cannot go on."""
        return self._process is not None and self._process.poll() is None

    def remove(self) -> None:
        """Stop it; nothing is left."""
        self.stop()
        shutil.rmtree(self.directory)

    def lose(self) -> None:
        """It ends at once, and its disk with it."""
        self.crash()
        shutil.rmtree(self.directory / "data")

    def part(self) -> None:
        """Hear no more of the primary, which goes on."""
        alter(self.url, "ALTER SYSTEM SET primary_conninfo=''")

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


class Pair:
    """A primary and its streaming standby; `url` finds the one of both that takes writes.

    As with `Postgresql`: started from a thread that outlives it, removed at the end.
    """

    def __init__(self) -> None:
        self._primary = Postgresql()
        self._standby = Postgresql(self._primary)
        host = f"127.0.0.1:{self._primary.port}"
        self.url = self._primary.url.replace(host, f"{host},127.0.0.1:{self._standby.port}")

    def begin(self, *, synchronous: bool) -> None:
        """Start both, and return when the standby follows. `synchronous`: the primary waits for it at each commit."""
        self._primary.start()
        self._standby.start()
        if synchronous:  # only now: a copy of these settings, once promoted, would wait for others
            alter(self._primary.url, "ALTER SYSTEM SET synchronous_standby_names='*'")
        state = ("sync" if synchronous else "async",)
        with psycopg.connect(self._primary.url, autocommit=True) as connection:
            sql = "SELECT sync_state FROM pg_stat_replication"
            until(lambda: connection.execute(sql).fetchone() == state, "the standby follows")

    def crash(self) -> None:
        """As the primary does."""
        self._primary.crash()

    def start(self) -> None:
        """Start the primary again."""
        self._primary.start()

    def promote(self, behind: float) -> None:
        """The primary is lost with its disk, and the standby promoted, which had not heard of it for some seconds."""
        self._standby.part()
        time.sleep(behind)
        self._primary.lose()
        self._standby.promote()
        self._primary, self._standby = self._standby, self._primary

    def remove(self) -> None:
        """Stop both; nothing is left."""
        self._primary.remove()
        self._standby.remove()


def alter(url: str, statement: str) -> None:
    """ALTER SYSTEM, waiting for no standby; the setting comes into force a moment later."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit=local")
        connection.execute(statement)
        connection.execute("SELECT pg_reload_conf()")


def unordered(url: str) -> None:
    """Take from a journal there what gives its seqs in the order of commits; for the controls.

    A sequence gives them, up to a tenth of a second before the commit. What else `head` tells is counted when it is
    asked for, so that nobody waits for that either.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        [(text,)] = connection.execute("SELECT pg_get_functiondef('gridgov.accept'::regproc)").fetchall()
        for ours, loose in (
            (
                "SELECT seq INTO before FROM head FOR UPDATE;",
                "SELECT nextval('gridgov.loose') INTO before; PERFORM pg_sleep(random()/10);",
            ),
            ("UPDATE head", "used := 0; IF false THEN UPDATE head"),
            ("INTO used;", "INTO used; END IF;"),
        ):
            assert ours in text
            text = text.replace(ours, loose)
        connection.execute(text)
        connection.execute("SET search_path=gridgov")
        connection.execute("CREATE SEQUENCE loose INCREMENT 10000")  # a group takes what lies between
        connection.execute("ALTER TABLE head RENAME TO counted")
        connection.execute("""
            CREATE VIEW head AS SELECT journal_id, (SELECT last_value FROM loose) AS seq,
            (SELECT count(*) FROM receipts) AS accepted, (SELECT gone FROM tail) AS came FROM counted
        """)


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
