"""Journal and casebook on a real PostgreSQL keep what those in SQLite's files do: the same tests, run again; and what
is PostgreSQL's own: many writers at once, an order that is the commits', a leader whom another has followed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize
from prometheus_client import Gauge

from schemas.words import Standard
from service.cases.casebook import Casebook
from service.cases.search import Period, Search
from service.config import load
from service.domain.case import Fact
from service.domain.standards import Rules
from service.journal.journal import SqliteJournal
from service.journal.postgresql import journal as postgresql_journal
from service.journal.postgresql.connection import Deposed, mapped
from service.journal.postgresql.journal import _ACCEPT as ACCEPT
from service.journal.postgresql.journal import PostgresqlJournal
from service.journal.postgresql.journal import _columns as columns
from service.journal.postgresql.leadership import Leadership
from service.journal.postgresql.server import LEADER, MOST_READERS, ROOM_BYTES, Server
from service.journal.side import Journal
from service.ports import (
    EVERYTHING,
    Delivery,
    JournalBroken,
    JournalError,
    JournalFull,
    JournalUnavailable,
    ParkReason,
)
from service.storage.move import ServedPlace, move
from service.storage.postgresql import TABLES, OnPostgresql
from service.storage.storage import Files
from tests.gridgov import NO_KAFKA, Gridgov, until
from tests.postgresql import Postgresql, alter, unordered
from tests.unit.case_desk import Desk, hurried
from tests.unit.case_stories import RULES, told
from tests.unit.messages import NOW, message
from tests.unit.test_casebook import (  # noqa: F401 - as those of the journal
    test_a_breach_is_counted_when_the_grace_is_over_and_never_again,
    test_a_report_that_comes_again_counts_once_even_when_the_journal_has_forgotten_it,
    test_an_exception_inside_leaves_neither_the_cursor_nor_a_total,
    test_exactly_1500_seconds_are_met,
    test_other_rules_reschedule_what_is_undecided_and_leave_the_past,
    test_parked_messages_are_folded_too_and_once,
    test_the_journal_keeps_settled_rows_until_they_are_folded,
)
from tests.unit.test_casebook import (
    test_what_cannot_be_digested_is_counted_and_passed as passes_by,
)
from tests.unit.test_journal import (  # noqa: F401 - they are run here, with the fixtures below
    LIMIT,
    SMALL,
    append,
    everything,
    fill_up,
    kind,
    test_a_parked_message_is_kept_with_its_reason,
    test_a_receipt_is_its_senders_own,
    test_a_repeat_gets_the_first_receipt_and_leaves_nothing,
    test_a_repeat_of_a_settled_report_says_so,
    test_a_requeued_message_goes_to_the_end_of_the_line_under_a_new_seq,
    test_a_settled_message_is_gone_and_its_receipt_says_where_it_is,
    test_a_settled_message_stays_for_the_cases_until_they_have_it,
    test_an_error_in_the_middle_leaves_nothing_behind,
    test_another_attempt_is_counted_only_for_what_was_handed_over,
    test_forgetting_is_done_in_bites,
    test_how_full_it_is,
    test_it_opens_again_only_below_the_lower_mark_and_without_a_restart,
    test_old_receipts_are_forgotten_only_once_settled,
    test_parking_what_is_not_pending_does_nothing,
    test_past_the_hard_mark_nothing_new_is_taken,
    test_past_the_hard_mark_repeats_are_still_answered,
    test_pending_is_read_by_topic_in_order_from_a_place,
    test_repeats_inside_one_batch_and_across_submissions_count_once,
    test_settling_twice_counts_once,
    test_the_last_seq_is_below_whatever_comes,
    test_the_ledger_adds_up_through_every_transition,
    test_the_same_id_of_another_sender_is_another_report,
    test_the_same_id_with_other_content_is_a_conflict,
    test_the_topics_are_those_that_something_pending_is_for,
    test_what_is_appended_is_pending_byte_for_byte,
    test_what_was_handed_over_is_never_taken_back,
)
from tests.unit.test_journal_properties import JournalMachine
from tests.unit.test_standards import EXAMPLES

PATIENCE = 60.0


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    """An empty PostgreSQL, as far as it goes: our tables are dropped."""
    empty(postgresql.url)
    return postgresql.url


def empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS gridgov CASCADE")


_made: list[Server] = []
_led: list[Leadership] = []


def server(url: str, **more: Any) -> Server:
    """Its connections are closed at the end of the test."""
    _made.append(Server(url, TABLES, **more))
    return _made[-1]


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()
    while _led:
        if (session := _led.pop()._session) is not None:
            session.close()


def opened(url: str, limit: int = LIMIT) -> PostgresqlJournal:
    return PostgresqlJournal(server(url), limit=limit)


@pytest.fixture
def journal(url: str) -> Iterator[PostgresqlJournal]:
    made = opened(url)
    yield made
    made.close()


@pytest.fixture
def small(url: str) -> Iterator[PostgresqlJournal]:
    made = opened(url, SMALL)
    yield made
    made.close()


# ---- the same as in SQLite's files ----


class ServedDesk(Desk):
    """The fold's desk, at a server."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__()

    def stores(self) -> tuple[Journal, Callable[[], Casebook]]:
        cases = server(self.url)
        return opened(self.url, 1 << 28), lambda: Casebook(cases, self.rules)

    def kill(self) -> None:
        """What was not committed is not."""
        self.let_go()
        self.open()

    def restart(self, rules: Rules, rules_id: str) -> None:
        self.rules, self.rules_id = rules, rules_id
        self.kill()


@pytest.fixture
def desk(url: str) -> Iterator[ServedDesk]:
    with hurried():
        made = ServedDesk(url)
        yield made
        made.close()


def test_any_sequence_of_operations_leaves_it_as_the_model_has_it(postgresql: Postgresql) -> None:
    class Machine(JournalMachine):
        @initialize()
        def make(self) -> None:
            empty(postgresql.url)
            super().make()

        def open(self) -> None:
            self.journal = opened(postgresql.url)

    Machine.TestCase.settings = settings(
        max_examples=3, stateful_step_count=15, deadline=None, suppress_health_check=[*HealthCheck]
    )
    Machine.TestCase().runTest()


def test_one_report_that_cannot_be_digested_keeps_no_other_waiting(desk: ServedDesk) -> None:
    """What failed is taken back to its savepoint, the others of the same transaction stay."""
    passes_by(desk, b"[]")


def test_what_is_looked_for_and_counted_is_the_same(desk: ServedDesk) -> None:
    files = Desk()
    try:
        for one in (files, desk):
            for number, (sort, words, until_, _) in enumerate(EXAMPLES):
                story = [named(fact, number) for fact in told(sort, words)]
                one.now = max(one.now, story[0].received_at, int(until_))
                one.accept(*story)
            one.turn()
        assert answers(desk) == answers(files)
    finally:
        files.close()


def named(fact: Fact, number: int) -> Fact:
    return fact._replace(case_id=f"c{number}", report_id=f"{number}-{fact.seq}", sender=f"s{number % 3}")


def answers(desk: Desk) -> list[object]:
    book, now = desk.book, desk.now
    wanted = [
        Search(),
        Search(phase="approved"),
        Search(kind="repair", overdue=True),
        Search(due_soon=False),
        Search(owner="s1"),
    ]
    wanted += [Search(phase="in_progress"), Search(overdue=True), Search(supervision="none", owner="s2")]
    return [
        desk.totals(),
        *[[found.case_id for found in book.search(one, now_ms=now, after="c1", limit=50)] for one in wanted],
        book.figures(Period(0, EVERYTHING), now),
        book.open_by_progress(),
        book.open_by_supervision(),
        book.oldest_open(),
        *[book.running(what, standard, now) for what in ("overdue", "due_soon") for standard in Standard],
        book.meta().keys(),
    ]


# ---- many at once ----


@pytest.mark.parametrize("ordered", [True, False])
def test_what_commits_late_is_not_passed_by(journal: PostgresqlJournal, url: str, ordered: bool) -> None:
    """A reader goes on behind the last seq that it saw. The control gives seqs in no order of commits: it loses."""
    append(journal, message("r-0"))
    journal.hand_over({}, [Delivery(1, 0, 0, NOW)], EVERYTHING)
    if not ordered:
        unordered(url)
    seen: list[str] = []
    cursor = 0

    def read() -> None:
        nonlocal cursor
        for one in journal.pending(None, cursor, 9):
            cursor = one.seq
            seen.append(one.report_id)

    slow = journal._server.connect()
    with ThreadPoolExecutor() as pool:
        slow.execute("BEGIN")
        slow.execute(ACCEPT, columns([message("late")]))
        soon = pool.submit(append, journal, message("soon"))
        until(lambda: soon.done() or waiting(url), "the second has committed, or waits for the first")
        read()
        slow.execute("COMMIT")
        soon.result(PATIENCE)
    read()
    slow.close()
    assert seen == (["late", "soon"] if ordered else ["soon"])


def waiting(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type='Lock'").fetchone() is not None


def test_one_id_at_three_replicas_at_once_is_one_report(journal: PostgresqlJournal, url: str) -> None:
    replicas = [journal, opened(url), opened(url)]
    start = threading.Barrier(3)

    def post(replica: PostgresqlJournal) -> list[str]:
        start.wait(PATIENCE)
        return [kind(one) for _ in range(333) for one in append(replica, message(f"r-{_ // 111}"))]

    with ThreadPoolExecutor(3) as pool:
        answers = [answer for told_ in pool.map(post, replicas) for answer in told_]

    assert (answers.count("new"), answers.count("duplicate")) == (3, 996)
    assert [(one.seq, one.report_id) for one in everything(journal)] == [(1, "r-0"), (2, "r-1"), (3, "r-2")]
    assert journal.totals().accepted == 3
    for replica in replicas[1:]:
        replica.close()


# ---- who leads ----


@dataclass
class Relay:
    """A relay's side: what it leads by, and what it writes with."""

    leadership: Leadership
    journal: PostgresqlJournal
    casebook: Casebook

    def write(self) -> None:
        self.journal.hand_over({"topic-a": 1}, [], 0)

    def fold(self) -> None:
        with self.casebook.changing() as changes:
            changes.remember(cursor=1)


def relay(url: str) -> Relay:
    leadership = Leadership(server(url), Gauge("leader", "who leads", registry=None))
    _led.append(leadership)
    fenced = server(url, fence=leadership.fence, name=LEADER)
    journal = PostgresqlJournal(fenced, limit=LIMIT, holder=leadership.holder)
    return Relay(leadership, journal, Casebook(fenced, RULES))


@pytest.fixture
def relays(url: str) -> tuple[Relay, Relay]:
    """The first leads, the second does not yet."""
    first, second = relay(url), relay(url)
    assert first.leadership.wait(threading.Event())
    return first, second


def test_a_leader_whom_another_has_followed_writes_nothing_more(relays: tuple[Relay, Relay]) -> None:
    first, second = relays
    append(first.journal, message())
    first.write()
    first.fold()
    assert second.leadership._try() is False
    assert first.leadership._session is not None
    first.leadership._session.close()  # as the kernel does for a process that was killed

    assert second.leadership.wait(threading.Event())

    second.write()
    second.fold()
    for write in (
        first.write,
        first.fold,
        first.journal.reattempt,
        lambda: first.journal.park(1, ParkReason.RECORD_REFUSED, "", NOW),
        lambda: first.leadership.beat({}),
    ):
        told_that_another_leads(write)
    assert [one.attempt for one in everything(second.journal)] == [1]
    opened(first.journal._server._url).hand_over({}, [Delivery(1, 0, 0, NOW)], EVERYTHING)  # the control: no fence
    assert everything(second.journal) == []


def told_that_another_leads(write: Callable[[], object]) -> None:
    """Its sessions were ended; it is told with the next."""
    for _ in range(5):
        try:
            write()
        except Deposed:
            return
        except JournalUnavailable:
            continue
        raise AssertionError("written")
    raise AssertionError("never told")


def test_a_leader_that_is_silent_is_followed(relays: tuple[Relay, Relay]) -> None:
    """Cut off or stopped, it keeps its session; as long as it beats nobody ends that."""
    first, second = relays
    clock = iter(range(0, 10**6, 100))
    second.leadership._clock = lambda: next(clock)
    for _ in range(3):
        first.leadership.beat({"connected": True})
        assert second.leadership._try() is False

    until(second.leadership._try, "the silent one's session is ended")

    with pytest.raises(Deposed):
        first.leadership.beat({"connected": True})


def test_on_a_full_disk_nobody_gives_up(relays: tuple[Relay, Relay], url: str) -> None:
    """Neither who leads nor who stands by: both would only be started again, later and later."""
    first, second = relays
    with full_disk(url, "UPDATE ON gridgov.pulse"):
        first.leadership.beat({})
        assert first.leadership._session is not None
        first.leadership._session.close()
        stands_by = threading.Timer(0.5, (stop := threading.Event()).set)
        stands_by.start()
        assert not second.leadership.wait(stop)
    assert second.leadership.wait(threading.Event())


def test_a_leader_cut_off_in_the_middle_of_a_transaction_keeps_nothing_locked(relays: tuple[Relay, Relay]) -> None:
    first, second = relays

    def cut_off() -> None:
        with first.casebook.changing() as changes:
            changes._db.execute("SET LOCAL idle_in_transaction_session_timeout=0")  # as if half a message had come
            assert first.leadership._session is not None
            first.leadership._session.close()
            until(second.leadership._try, "another leads")

    with pytest.raises(JournalUnavailable):
        cut_off()
    second.fold()


def test_a_leader_whose_server_was_away_ends_as_that_may_have_forgotten_something(
    relays: tuple[Relay, Relay], postgresql: Postgresql
) -> None:
    first, second = relays
    append(first.journal, message())
    postgresql.crash()
    with pytest.raises(JournalUnavailable):
        first.write()
    postgresql.start()

    with pytest.raises(Deposed):
        first.leadership.beat({})

    assert second.leadership.wait(threading.Event())
    assert len(everything(second.journal)) == 1


# ---- moving ----


def test_moving_there_and_back_keeps_all_there_is(url: str, tmp_path: Path) -> None:
    desk = Desk()
    desk.accept(*told("incident", "reported@0 arrived@60 finished@700 approved@2000"))
    desk.turn()
    desk.settle(1)
    desk.journal.park(2, ParkReason.RECORD_REFUSED, "no", NOW)
    desk.accept(told("repair", "reported@5")[0]._replace(report_id="later", case_id="another"))
    desk.journal.hand_over({"topic-a": 4}, [Delivery(3, 1, 7, NOW)], 2)
    before, old = kept(desk), desk.journal.journal_id
    desk.let_go()

    there = Files(load({"GRIDGOV_DATA_DIR": str(desk.directory)}))
    aside, moved = move(there.place(), served(url))
    assert (moved["messages"], moved["parked"], moved["receipts"], moved["settlements"]) == (3, 1, 5, 2)
    with pytest.raises(JournalError, match="not empty"):
        move(Files(load({"GRIDGOV_DATA_DIR": aside})).place(), served(url))
    with hurried():
        at_server = ServedDesk(url)
        assert kept(at_server) == before
        assert at_server.journal.journal_id != old
        at_server.turn()
        assert (at_server.total("gaps"), at_server.fold.lag) == (0, 0)
        before = kept(at_server)
        with pytest.raises(JournalUnavailable, match="stop all replicas"):
            served(url)
        at_server.close()
    back = Files(load({"GRIDGOV_DATA_DIR": str(tmp_path)}))
    until(lambda: server(url, name="asks").others() == 0, "the server has seen them go")
    move(served(url), back.place())
    journal = back.looking()
    assert kept_by(journal) == before[1:]
    append(journal, message("next"))
    assert journal.last() == 6
    journal.close()
    desk.remove()


def test_the_command_tells_nobody_the_password(url: str, tmp_path: Path) -> None:
    gridgov = Gridgov(tmp_path / "var", NO_KAFKA)
    journal = SqliteJournal(gridgov.data_dir, limit=LIMIT)
    append(journal, message())
    journal.close()

    done = gridgov.run("journal", "move", "--to", url)

    assert done.returncode == 0, done.stderr
    assert "messages     1\n" in done.stdout
    log = (gridgov.data_dir / "audit" / "audit.jsonl").read_text(encoding="utf-8")
    assert "sink:***@127.0.0.1" in log
    assert "geheim" not in log + done.stdout + done.stderr
    assert Gridgov(tmp_path / "other", NO_KAFKA, {"GRIDGOV_JOURNAL": url}).status()["pending"] == 1


def served(url: str) -> ServedPlace:
    place = OnPostgresql(load({}), url).place()
    assert isinstance(place.journal, Server)
    _made.append(place.journal)
    return place


def kept(desk: Desk) -> tuple[object, ...]:
    return desk.totals(), *kept_by(desk.journal)


def kept_by(journal: Journal) -> tuple[object, ...]:
    receipts = [journal.receipt("s", report_id) for report_id in ("r0", "r1", "r2", "r3", "later")]
    return (
        journal.totals(),
        journal.pending(None, 0, 99),
        journal.after(0, 99),
        journal.parked(),
        journal.marks(),
        receipts,
    )


# ---- a server that is away, or promises nothing ----


def test_while_the_server_is_away_nothing_is_accepted_and_nothing_is_lost(
    journal: PostgresqlJournal, postgresql: Postgresql
) -> None:
    append(journal, message("before"))
    postgresql.crash()
    for ask in (
        lambda: journal.append([[message("away")]]),
        journal.probe,
        journal.fill,
        lambda: journal.receipt("platform", "before"),
    ):
        with pytest.raises(JournalUnavailable):
            ask()
    postgresql.start()
    append(journal, message("after"))
    assert [one.report_id for one in everything(journal)] == ["before", "after"]
    assert journal.totals().mismatch == 0


def test_a_server_that_would_forget_is_refused(url: str) -> None:
    assert "synchronous_commit=on" in server(url).promise()
    off = "ALTER ROLE sink SET synchronous_commit=off", "ALTER ROLE sink RESET synchronous_commit"
    with altered(url, *off), pytest.raises(JournalBroken, match="would forget accepted reports"):
        append(opened(url), message())


def test_what_no_standby_has_is_not_accepted_because_somebody_waits_no_longer(
    journal: PostgresqlJournal, url: str
) -> None:
    """PostgreSQL then commits, and warns."""
    posted: list[str] = []

    def accept() -> None:
        posted.append(f"r-{len(posted)}")
        append(journal, message(posted[-1]))

    unpromised(url, accept)
    [again] = append(journal, message(posted[-1]))
    assert kind(again) == "duplicate"


def test_nor_is_it_when_it_comes_again_to_a_full_journal(small: PostgresqlJournal, url: str) -> None:
    """A primary that crashed shows also what its standby has not got."""
    fill_up(small)  # type: ignore[arg-type]  # its own is like SQLite's
    repeat = message("r-1", value=b"v" * 3_000)
    unpromised(url, lambda: append(small, repeat))
    [again] = append(small, repeat)
    assert kind(again) == "duplicate"


def unpromised(url: str, accept: Callable[[], object]) -> None:
    """Without its standby the server is waited for, and nothing promised once it is waited for no longer."""

    over = threading.Event()

    def accepting() -> None:
        while not over.is_set():  # the setting comes into force a little later
            accept()

    names = "ALTER SYSTEM SET synchronous_standby_names='nobody'", "ALTER SYSTEM RESET synchronous_standby_names"
    with altered(url, *names), ThreadPoolExecutor() as pool, ExitStack() as stack:
        refused = pool.submit(accepting)
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event='SyncRep'"
        stack.callback(over.set)
        with psycopg.connect(url, autocommit=True) as connection:
            until(lambda: (connection.execute(cancel), refused.done())[1], "a commit waited for the standby")
        with pytest.raises(JournalUnavailable, match="canceling wait for synchronous replication"):
            refused.result(PATIENCE)


def test_a_leader_hands_over_nothing_that_the_standby_may_lack(
    relays: tuple[Relay, Relay], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, but neither for ever nor with anything else: another would have to wait too."""
    monkeypatch.setattr(postgresql_journal, "STANDBY_SECONDS", 0.2)
    leader = relays[0]
    append(leader.journal, message())

    def refused() -> bool:
        try:
            leader.write()
        except JournalUnavailable as error:
            return "canceling wait for synchronous replication" in str(error)
        return False

    names = "ALTER SYSTEM SET synchronous_standby_names='nobody'", "ALTER SYSTEM RESET synchronous_standby_names"
    with altered(url, *names):
        until(refused, "it waits for the standby")
        leader.journal.reattempt()
        leader.leadership.beat({})
        leader.journal.hand_over({}, [Delivery(1, 0, 0, NOW)], EVERYTHING)
    leader.write()
    assert (leader.journal.totals().settled, leader.journal.totals().mismatch) == (1, 0)


def test_whoever_does_not_answer_is_not_waited_for_and_may_still_do_it(journal: PostgresqlJournal, url: str) -> None:
    """A commit that waits, be it for a lock, the disk or a standby: the repeat gets the first receipt."""
    append(journal, message("before"))
    hasty = PostgresqlJournal(server(url, hang_up=0.3), limit=LIMIT)
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1 FROM gridgov.head FOR UPDATE")
        with pytest.raises(JournalUnavailable, match="no answer within"):
            append(hasty, message("late"))
        assert hasty.receipt("platform", "late") is None
    until(lambda: hasty.receipt("platform", "late"), "it came through")
    [again] = append(hasty, message("late"))
    assert kind(again) == "duplicate"
    with pytest.raises(JournalUnavailable, match="no answer within"):
        hasty._server.read("SELECT pg_sleep(60)")


def test_no_more_than_a_few_wait_for_an_answer(url: str) -> None:
    slow = server(url, hang_up=1.0)

    def read() -> str:
        with pytest.raises(JournalUnavailable) as caught:
            slow.read("SELECT pg_sleep(60)")
        return str(caught.value)

    with ThreadPoolExecutor() as pool:
        told_ = [one.result() for one in [pool.submit(read) for _ in range(MOST_READERS + 1)]]
    assert sum("others wait" in one for one in told_) == 1


def test_the_server_ends_no_statement_of_ours_for_its_length(url: str) -> None:
    with altered(url, "ALTER ROLE sink SET statement_timeout='1s'", "ALTER ROLE sink RESET statement_timeout"):
        assert server(url).read("SHOW statement_timeout") == [("0",)]


def test_a_full_disk_is_full_until_there_is_room_for_more_than_one_report(
    journal: PostgresqlJournal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is small fits now and then; whoever believed it would say ready and refuse by turns."""
    monkeypatch.setattr(postgresql_journal, "ROOM_SECONDS", 0.0)
    append(journal, message("before"))
    with full_disk(url):
        [refused] = journal.append([[message("after")]])
    assert isinstance(refused, JournalFull)
    assert "make room" in str(refused)
    full = JournalFull("no room to try")
    with monkeypatch.context() as patched:
        patched.setattr(journal._server, "try_room", raising(full))
        assert journal.append([[message("after")], [message("before")]])[0] is full
        with pytest.raises(JournalFull):
            journal.probe()
    [again] = append(journal, message("before"))
    assert kind(again) == "duplicate"
    assert not journal.closed_to_new
    append(journal, message("after"))
    [(written,)] = until(lambda: (found := journal._server.read(_TEMPORARY)) != [(0,)] and found, "the disk was tried")
    assert written > ROOM_BYTES * 0.9


_TEMPORARY = "SELECT temp_bytes FROM pg_stat_database WHERE datname=current_database()"


@contextmanager
def full_disk(url: str, what: str = "INSERT ON gridgov.messages") -> Iterator[None]:
    """The server says so whenever that is done."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"""
            CREATE FUNCTION gridgov.full_disk() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE='disk_full'; END$$;
            CREATE TRIGGER full_disk BEFORE {what} EXECUTE FUNCTION gridgov.full_disk()
        """)
        yield
        connection.execute("DROP FUNCTION gridgov.full_disk CASCADE")


def raising(error: Exception) -> Callable[[], None]:
    def raises() -> None:
        raise error

    return raises


def test_what_a_synchronous_standby_has_outlives_the_primary(url: str, postgresql: Postgresql) -> None:
    standby = Postgresql(postgresql)
    try:
        standby.start()
        both = url.replace(f":{postgresql.port}/", f":{postgresql.port},127.0.0.1:{standby.port}/")
        names = "ALTER SYSTEM SET synchronous_standby_names='*'", "ALTER SYSTEM RESET synchronous_standby_names"
        with altered(url, *names):
            journal, first, second = opened(both), relay(both), relay(both)
            with psycopg.connect(url, autocommit=True) as connection:
                follows = "SELECT 1 FROM pg_stat_replication WHERE sync_state='sync'"
                until(lambda: connection.execute(follows).fetchone(), "the standby is waited for")
            assert "and by its synchronous standbys" in server(both).promise()
            assert first.leadership.wait(threading.Event())
            for number in range(20):
                append(journal, message(f"r-{number}"))
            postgresql.crash()
            with pytest.raises(JournalUnavailable):
                journal.append([[message("away")]])
            standby.promote()
            with pytest.raises(Deposed):
                first.leadership.beat({})
            assert second.leadership.wait(threading.Event())
            second.write()
            append(journal, message("on"))
            assert [one.report_id for one in everything(journal)] == [*[f"r-{number}" for number in range(20)], "on"]
            postgresql.start()
    finally:
        standby.remove()


@contextmanager
def altered(url: str, do: str, undo: str) -> Iterator[None]:
    alter(url, do)
    try:
        yield
    finally:
        alter(url, undo)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (psycopg.errors.TooManyConnections, JournalUnavailable),
        (psycopg.errors.AdminShutdown, JournalUnavailable),
        (psycopg.errors.ReadOnlySqlTransaction, JournalUnavailable),
        (psycopg.errors.LockNotAvailable, JournalUnavailable),
        (psycopg.errors.InsufficientPrivilege, JournalUnavailable),
        (psycopg.errors.DiskFull, JournalFull),
        (psycopg.errors.UndefinedFunction, JournalBroken),
        (psycopg.errors.NotNullViolation, JournalBroken),
    ],
)
def test_what_passes_stops_nothing(error: type[psycopg.Error], ours: type[JournalError]) -> None:
    assert type(mapped(error())).__mro__[:2].count(ours) == 1
