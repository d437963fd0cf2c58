"""The journal: nothing accepted vanishes, nothing is taken twice, and the ledger always adds up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from service.journal.journal import SqliteJournal
from service.journal.side import Journal
from service.ports import (
    EVERYTHING,
    Conflict,
    Delivery,
    JournalFull,
    Message,
    ParkReason,
    Pending,
    Receipt,
    State,
    Totals,
)
from tests.unit.messages import NOW, message

LIMIT = 1 << 24
SMALL = 300_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "var", limit=LIMIT, flush=False)
    yield made
    made.close()


def append(journal: Journal, *messages: Message) -> list[Receipt | Conflict]:
    """The answers to one submission that is taken."""
    [answers] = journal.append([messages])
    assert not isinstance(answers, JournalFull)
    return answers


def everything(journal: Journal, topic: str = "topic-a") -> list[Pending]:
    return journal.pending(topic, 0, 100_000)


def seqs(journal: Journal, topic: str = "topic-a") -> list[int]:
    return [one.seq for one in everything(journal, topic)]


def settle(journal: Journal, *numbers: int) -> None:
    journal.hand_over({}, [Delivery(seq, 2, seq + 100, NOW + 5) for seq in numbers], EVERYTHING)


def kind(answer: Receipt | Conflict) -> str:
    if isinstance(answer, Conflict):
        return "conflict"
    return "duplicate" if answer.duplicate else "new"


def behind_our_back(directory: Path, sql: str) -> None:
    """What no code of ours does. With the same SQLite: two of them in one process undo each other's file locks."""
    db = apsw.Connection(str(directory / "journal.sqlite3"))
    db.execute(sql)
    db.close()


# ---- accepting ----


def test_what_is_appended_is_pending_byte_for_byte(journal: SqliteJournal) -> None:
    given = message(value='{"地址": "杨树浦路"}'.encode())

    assert append(journal, given) == [Receipt("r-1", "case-1", "topic-a", NOW, State.PENDING)]

    assert everything(journal) == [
        Pending(1, "topic-a", "case-1", given.headers, given.value, NOW, 1, "platform", "r-1")
    ]


def test_a_repeat_gets_the_first_receipt_and_leaves_nothing(journal: SqliteJournal) -> None:
    [first] = append(journal, message())

    [again] = append(journal, message(received_at=NOW + 1_000))

    assert isinstance(first, Receipt)
    assert again == replace(first, duplicate=True)
    assert seqs(journal) == [1]


def test_the_same_id_with_other_content_is_a_conflict(journal: SqliteJournal) -> None:
    append(journal, message(value=b"{}"))

    assert append(journal, message(value=b"[]")) == [Conflict("r-1")]
    assert [one.value for one in everything(journal)] == [b"{}"]


def test_the_same_id_of_another_sender_is_another_report(journal: SqliteJournal) -> None:
    answers = append(journal, message(sender="one"), message(sender="two", value=b"[]"))

    assert [kind(answer) for answer in answers] == ["new", "new"]
    assert seqs(journal) == [1, 2]


def test_repeats_inside_one_batch_and_across_submissions_count_once(journal: SqliteJournal) -> None:
    answers = journal.append([[message(), message(), message(value=b"[]")], [message(), message("r-2")]])

    assert [[kind(one) for one in rows] for rows in answers if isinstance(rows, list)] == [
        ["new", "duplicate", "conflict"],
        ["duplicate", "new"],
    ]
    assert journal.totals() == Totals(accepted=2, settled=0, pending=2, parked=0, mismatch=0)


def test_a_receipt_is_its_senders_own(journal: SqliteJournal) -> None:
    append(journal, message(sender="one"))

    assert journal.receipt("one", "r-1") is not None
    assert journal.receipt("two", "r-1") is None
    assert journal.receipt("one", "r-2") is None


def test_an_error_in_the_middle_leaves_nothing_behind(journal: SqliteJournal) -> None:
    with pytest.raises(TypeError):
        journal.append([[message("r-1")], [message("r-2", received_at=2**70)]])

    assert journal.totals() == Totals(0, 0, 0, 0, 0)
    assert journal.receipt("platform", "r-1") is None
    assert [kind(answer) for answer in append(journal, message("r-1"))] == ["new"]


# ---- leaving the pending state ----


def test_a_settled_message_is_gone_and_its_receipt_says_where_it_is(journal: SqliteJournal) -> None:
    append(journal, message("r-1"), message("r-2"))

    settle(journal, 1)

    assert seqs(journal) == [2]
    assert journal.receipt("platform", "r-1") == Receipt(
        "r-1", "case-1", "topic-a", NOW, State.SETTLED, False, 2, 101, NOW + 5
    )
    assert journal.totals() == Totals(accepted=2, settled=1, pending=1, parked=0, mismatch=0)


def test_settling_twice_counts_once(journal: SqliteJournal) -> None:
    append(journal, message())

    settle(journal, 1, 1)
    settle(journal, 1)

    assert journal.totals() == Totals(accepted=1, settled=1, pending=0, parked=0, mismatch=0)


def test_a_repeat_of_a_settled_report_says_so(journal: SqliteJournal) -> None:
    append(journal, message())
    settle(journal, 1)

    [again] = append(journal, message())

    assert isinstance(again, Receipt)
    assert (again.duplicate, again.state, again.offset) == (True, State.SETTLED, 101)
    assert seqs(journal) == []


def test_a_parked_message_is_kept_with_its_reason(journal: SqliteJournal) -> None:
    append(journal, message(value=b"[1, 2]"))

    journal.park(1, ParkReason.RECORD_TOO_LARGE, "too large by far", NOW + 7)

    [parked] = journal.parked()
    receipt = journal.receipt("platform", "r-1")
    assert seqs(journal) == []
    assert (parked.seq, parked.reason, parked.detail) == (1, "record_too_large", "too large by far")
    assert (parked.sender, parked.report_id, parked.case_id) == ("platform", "r-1", "case-1")
    assert (parked.size, parked.parked_at) == (6, NOW + 7)
    assert receipt is not None
    assert (receipt.state, receipt.reason) == (State.PARKED, "record_too_large")
    assert journal.totals() == Totals(accepted=1, settled=0, pending=0, parked=1, mismatch=0)


def test_parking_what_is_not_pending_does_nothing(journal: SqliteJournal) -> None:
    append(journal, message())
    settle(journal, 1)

    journal.park(1, ParkReason.RECORD_REFUSED, "", NOW)
    journal.park(99, ParkReason.RECORD_REFUSED, "", NOW)

    assert journal.parked() == []
    assert journal.totals() == Totals(accepted=1, settled=1, pending=0, parked=0, mismatch=0)


def test_a_requeued_message_goes_to_the_end_of_the_line_under_a_new_seq(journal: SqliteJournal) -> None:
    append(journal, message("r-1"), message("r-2"), message("r-3"))
    journal.park(1, ParkReason.RECORD_REFUSED, "no", NOW)

    assert journal.requeue([1, 77]) == {1: 4}

    receipt = journal.receipt("platform", "r-1")
    assert [(one.seq, one.report_id) for one in everything(journal)] == [(2, "r-2"), (3, "r-3"), (4, "r-1")]
    assert receipt is not None
    assert (receipt.state, receipt.reason) == (State.PENDING, None)
    assert journal.totals() == Totals(accepted=3, settled=0, pending=3, parked=0, mismatch=0)
    assert journal.requeue([1]) == {}


def test_a_seq_is_never_given_twice_even_after_the_last_one_is_gone(tmp_path: Path) -> None:
    first = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    append(first, message("r-1"), message("r-2"))
    settle(first, 1, 2)
    first.tidy()
    first.close()

    second = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    append(second, message("r-3"))
    second.park(3, ParkReason.RECORD_REFUSED, "", NOW)
    second.close()
    third = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    append(third, message("r-4"))

    assert seqs(third) == [4]
    assert third.requeue([3]) == {3: 5}
    third.close()


def test_a_settled_message_stays_for_the_cases_until_they_have_it(journal: SqliteJournal) -> None:
    append(journal, message("r-1"), message("r-2"), message("r-3"))

    journal.hand_over({}, [Delivery(1, 0, 0, NOW), Delivery(2, 0, 1, NOW)], 1)

    assert [one.report_id for one in journal.after(0, 10)] == ["r-2", "r-3"]
    assert seqs(journal) == [3]
    assert journal.totals() == Totals(accepted=3, settled=2, pending=1, parked=0, mismatch=0)
    journal.hand_over({}, [], 2)
    assert [one.report_id for one in journal.after(0, 10)] == ["r-3"]
    assert journal.marks() == (3, 2)


# ---- what the relay reads ----


def test_the_topics_are_those_that_something_pending_is_for(journal: SqliteJournal) -> None:
    assert journal.topics() == []
    append(journal, *[message(f"r-{n}", topic=f"topic-{'dbac'[n % 4]}") for n in range(8)])
    journal.hand_over({}, [Delivery(seq, 0, 0, NOW) for seq in (1, 5)])
    assert journal.topics() == ["topic-a", "topic-b", "topic-c"]
    assert journal.fill().oldest == NOW


def test_the_last_seq_is_below_whatever_comes(journal: SqliteJournal) -> None:
    assert journal.last() == 0
    append(journal, message("r-1"), message("r-2"))
    journal.hand_over({}, [Delivery(1, 0, 0, NOW)])
    assert journal.last() == 2


def test_pending_is_read_by_topic_in_order_from_a_place(journal: SqliteJournal) -> None:
    append(journal, *[message(f"r-{n}", topic="topic-a" if n % 2 else "topic-b") for n in range(1, 11)])

    assert [one.seq for one in journal.pending("topic-a", 3, 2)] == [5, 7]
    assert [one.seq for one in journal.pending("topic-b", 0, 100)] == [2, 4, 6, 8, 10]
    assert journal.pending("topic-c", 0, 100) == []
    assert [one.seq for one in journal.pending(None, 3, 4)] == [4, 5, 6, 7]


def test_another_attempt_is_counted_only_for_what_was_handed_over(journal: SqliteJournal) -> None:
    append(journal, *[message(f"r-{n}", topic="topic-a" if n < 4 else "topic-b") for n in range(1, 6)])
    journal.hand_over({"topic-a": 2}, [])

    journal.reattempt()
    append(journal, message("r-6"))

    assert [(one.seq, one.attempt) for one in everything(journal)] == [(1, 2), (2, 2), (3, 1), (6, 1)]
    assert [one.attempt for one in everything(journal, "topic-b")] == [1, 1]


def test_what_was_handed_over_is_never_taken_back(journal: SqliteJournal) -> None:
    append(journal, message("r-1"), message("r-2"))
    journal.hand_over({"topic-a": 2}, [])

    journal.hand_over({"topic-a": 1}, [])
    journal.reattempt()

    assert [one.attempt for one in everything(journal)] == [2, 2]


def test_the_version_changes_with_every_commit_of_anybody(tmp_path: Path, journal: SqliteJournal) -> None:
    before = journal.version()
    assert journal.version() == before

    append(journal, message())
    after_ours = journal.version()
    behind_our_back(tmp_path / "var", "UPDATE meta SET value=7 WHERE key='parked'")

    assert len({before, after_ours, journal.version()}) == 3


# ---- the ledger ----


def test_the_ledger_adds_up_through_every_transition(journal: SqliteJournal) -> None:
    append(journal, *[message(f"r-{n}") for n in range(1, 5)])
    assert journal.totals() == Totals(accepted=4, settled=0, pending=4, parked=0, mismatch=0)
    settle(journal, 1)
    assert journal.totals() == Totals(accepted=4, settled=1, pending=3, parked=0, mismatch=0)
    journal.park(2, ParkReason.RECORD_REFUSED, "", NOW)
    assert journal.totals() == Totals(accepted=4, settled=1, pending=2, parked=1, mismatch=0)
    journal.requeue([2])
    assert journal.totals() == Totals(accepted=4, settled=1, pending=3, parked=0, mismatch=0)
    settle(journal, 3, 4, 5)
    assert journal.totals() == Totals(accepted=4, settled=4, pending=0, parked=0, mismatch=0)
    journal.forget(NOW + 1)
    assert journal.totals() == Totals(accepted=4, settled=4, pending=0, parked=0, mismatch=0)


@pytest.mark.parametrize("table", ["messages", "parked"])
def test_a_row_that_vanishes_shows(tmp_path: Path, journal: SqliteJournal, table: str) -> None:
    append(journal, message("r-1"), message("r-2"))
    journal.park(2, ParkReason.RECORD_REFUSED, "", NOW)

    behind_our_back(tmp_path / "var", f"DELETE FROM {table}")

    assert journal.totals().mismatch == 1


def test_a_vanished_row_that_is_settled_after_all_still_shows(tmp_path: Path, journal: SqliteJournal) -> None:
    append(journal, message("r-1"))
    behind_our_back(tmp_path / "var", "DELETE FROM messages")

    settle(journal, 1)

    assert journal.totals() == Totals(accepted=1, settled=0, pending=0, parked=0, mismatch=1)


def test_how_full_it_is(journal: SqliteJournal) -> None:
    empty = journal.fill()
    append(journal, message("r-1", received_at=NOW), *[message(f"r-{n}", value=b"v" * 5_000) for n in range(2, 40)])
    journal.park(2, ParkReason.RECORD_REFUSED, "", NOW)
    full = journal.fill()
    settle(journal, *seqs(journal))

    assert (empty.pending, empty.parked, empty.oldest, empty.limit) == (0, 0, None, LIMIT)
    assert (full.pending, full.parked, full.oldest) == (38, 1, NOW)
    assert full.used - empty.used > 38 * 5_000
    assert journal.fill().used < empty.used + 20 * 5_000


# ---- the hard mark ----


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteJournal]:
    monkeypatch.setattr("service.journal.room.LOOK_SECONDS", 0)  # what a small journal takes in 20 ms is much of it
    made = SqliteJournal(tmp_path, limit=SMALL, flush=False)
    yield made
    made.close()


def fill_up(journal: SqliteJournal) -> int:
    """Append until it is full; how many were taken."""
    for number in range(1, 1_000):
        [answer] = journal.append([[message(f"r-{number}", value=b"v" * 3_000)]])
        if isinstance(answer, JournalFull):
            return number - 1
    raise AssertionError("never full")


def test_past_the_hard_mark_nothing_new_is_taken(small: SqliteJournal) -> None:
    taken = fill_up(small)

    fill = small.fill()
    assert SMALL * 0.90 <= fill.used <= SMALL
    assert fill.pending == taken
    assert small.receipt("platform", f"r-{taken + 1}") is None
    assert small.totals().mismatch == 0


def test_past_the_hard_mark_repeats_are_still_answered(small: SqliteJournal) -> None:
    fill_up(small)
    known, conflicting = message("r-1", value=b"v" * 3_000), message("r-1", value=b"other")

    answers = small.append([[known], [message("new")], [known, conflicting], [known, message("new")]])

    assert [type(answer) for answer in answers] == [list, JournalFull, list, JournalFull]
    assert isinstance(answers[2], list)
    assert [kind(one) for one in answers[2]] == ["duplicate", "conflict"]
    assert small.receipt("platform", "new") is None


def test_it_opens_again_only_below_the_lower_mark_and_without_a_restart(small: SqliteJournal) -> None:
    fill_up(small)
    refused_at = []
    for number, seq in enumerate(seqs(small)):
        settle(small, seq)
        before = small.fill().used
        [answer] = small.append([[message(f"new-{number}")]])
        if not isinstance(answer, JournalFull):
            break
        refused_at.append(before)

    assert min(refused_at) >= SMALL * 0.80
    assert max(refused_at) < SMALL * 0.92
    assert len(refused_at) > 1
    assert before < SMALL * 0.80
    assert [type(one) for one in small.append([[message("one more")]])] == [list]


# ---- receipts do not stay for ever ----


def test_old_receipts_are_forgotten_only_once_settled(journal: SqliteJournal) -> None:
    append(journal, *[message(f"r-{n}") for n in range(1, 6)])
    journal.hand_over({}, [Delivery(seq, 2, seq + 100, NOW + seq) for seq in (1, 2, 4)])
    journal.park(3, ParkReason.RECORD_REFUSED, "", NOW)

    assert journal.forget(NOW + 4) == 2

    assert [n for n in range(1, 6) if journal.receipt("platform", f"r-{n}")] == [3, 4, 5]
    assert journal.totals().mismatch == 0


def test_forgetting_is_done_in_bites(journal: SqliteJournal) -> None:
    append(journal, *[message(f"r-{n}") for n in range(10)])
    settle(journal, *seqs(journal))

    assert [journal.forget(NOW + 6, limit=4) for _ in range(4)] == [4, 4, 2, 0]
