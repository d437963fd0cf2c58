"""One connection to PostgreSQL: it notices when nobody answers, and what goes wrong with it comes out as ours."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import psycopg
from psycopg import conninfo
from psycopg.abc import RV, PQGen

from service.journal.store import RowRefused
from service.ports import JournalBroken, JournalError, JournalFull, JournalUnavailable

SCHEMA = "gridgov"  # where our tables are, in whatever database
# For one answer. Above the server's own patience with locks, below that of a request.
ANSWER_SECONDS, CONNECT_SECONDS = 9.0, 3
WORK_SECONDS = 60.0  # the same for whom no request waits
CANCEL_SECONDS = 3.0  # for asking the server to cancel
DEPOSED = "GG001"  # the SQLSTATE of our own: another leads
# Who is gone without a word is noticed by either side: by us within the time that a request waits, by the server
# before a standby has to wait for what it left behind.
ALIVE = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
    "target_session_attrs": "read-write",  # of several hosts, the one that takes writes
}
_SESSION = f"""
SET search_path={SCHEMA};
SET default_transaction_isolation='read committed';
SET idle_in_transaction_session_timeout='5s';
SET lock_timeout='8s'; SET statement_timeout=0;
SET tcp_keepalives_idle=3; SET tcp_keepalives_interval=2; SET tcp_keepalives_count=3; SET tcp_user_timeout=8000;
SET client_min_messages=warning;
SET enable_seqscan=off; SET enable_hashjoin=off; SET enable_mergejoin=off; SET plan_cache_mode=force_generic_plan;
SET jit=off
"""  # a plan made while a table was empty is kept, and shall be one for a full table; none is worth compiling;
# how long one waits is said here, not by who has set the server up
_PASSING = ("08", "40", "53", "55", "57", "58", "25", "28", "3D", "42501")  # classes that another try may find better


class Unanswered(psycopg.InterfaceError):
    """A server keeps the connection and says nothing: it stands still, or what it does takes too long."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """Waits so many seconds for an answer, and then hangs up.

    What was asked may still be done: a server that stands still would not hear that it shall not.
    """

    hang_up: float | None = CONNECT_SECONDS  # after so many seconds; None: however long it takes

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg says; every statement comes by here. Raises `Unanswered`."""
        try:
            return super().wait(gen, interval, self.hang_up if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise Unanswered(
                f"no answer within {self.hang_up:.0f} s: PostgreSQL stands still, or a commit waits for a synchronous"
                " standby that is not there (pg_stat_activity, wait_event SyncRep)"
            ) from error


class Deposed(JournalBroken):
    """Another relay leads: whatever this one wanted to write is not written."""


def mapped(error: psycopg.Error) -> JournalError:
    """Ours for PostgreSQL's: what the caller may do about it.

    Nothing but a row, or a statement of ours that is wrong, stays wrong: the server is mended without us, and only then
    is there any use in going on.
    """
    text, state = f"{type(error).__name__}: {str(error).strip()}", error.sqlstate or ""
    if state == DEPOSED:
        return Deposed("another relay leads")
    if state == "53100":
        return JournalFull(f"{text}: make room on PostgreSQL's disk")
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return RowRefused(text)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or state.startswith(_PASSING):
        return JournalUnavailable(text)
    return JournalBroken(text)


def understood(url: str) -> bool:
    """Whether it is the address of a PostgreSQL."""
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return False
    return True


@contextmanager
def ours() -> Iterator[None]:
    """What psycopg raises inside comes out as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise mapped(error) from error


def kept(settings: Mapping[str, str]) -> str:
    """What an accepted report means on a server with these settings. Raises `JournalBroken` when that is nothing."""
    commit, standbys = settings["synchronous_commit"], settings["synchronous_standby_names"]
    if commit == "off" or settings["fsync"] == "off":
        raise JournalBroken(
            f"synchronous_commit={commit}, fsync={settings['fsync']}: this PostgreSQL would forget accepted reports;"
            " neither may be off (ALTER ROLE … SET synchronous_commit=on)"
        )
    told = f"synchronous_commit={commit}, synchronous_standby_names='{standbys}'"
    return f"flushed by the primary{_also(commit) if standbys else ' alone'} ({told})"


def _also(commit: str) -> str:
    return {
        "local": " alone",
        "remote_write": " and written, not flushed, by its synchronous standbys",
        "remote_apply": " and flushed and applied by its synchronous standbys",
    }.get(commit, " and by its synchronous standbys")


def opened(url: str, name: str) -> Connection:
    """A connection in autocommit with our settings, as patient as is right for making one. Raises `psycopg.Error`.

    `name`: as the server shows it.
    """
    given = conninfo.conninfo_to_dict(url)
    connection = Connection.connect(
        **{**ALIVE, "fallback_application_name": name, **given},  # type: ignore[arg-type]  # as text or numbers
        autocommit=True,
        cursor_factory=psycopg.RawCursor,
    )
    try:
        connection.execute(_SESSION)
    except BaseException:
        connection.close()
        raise
    return connection


def promise_of(connection: Connection) -> str:
    """What an accepted report means on its server. Raises `JournalBroken` when that is nothing."""
    return kept(_settings_of(connection))


@contextmanager
def ended(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Cancel what the server still does for it after so long."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, _cancel, [connection])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # or it would end what comes next


def _cancel(connection: Connection) -> None:
    with suppress(psycopg.Error):  # the connection may have gone meanwhile
        connection.cancel_safe(timeout=CANCEL_SECONDS)


def _settings_of(connection: Connection) -> dict[str, str]:
    names = ["synchronous_commit", "synchronous_standby_names", "fsync"]
    sql = "SELECT name, setting FROM pg_settings WHERE name = ANY($1)"
    return cast(dict[str, str], dict(connection.execute(sql, [names]).fetchall()))
