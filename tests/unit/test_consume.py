"""Dropping duplicates with one number per (journal-id, topic, partition), the rule that is published for consumers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.broker.consume import Watermark


def passed(*records: tuple[str, str, int, int]) -> list[bool]:
    watermark = Watermark()
    return [watermark.passes(*record) for record in records]


def test_what_is_not_above_the_highest_seen_is_a_duplicate() -> None:
    assert passed(*[("j", "t", 0, seq) for seq in (1, 2, 2, 1, 5, 3, 5, 6)]) == [
        *(True, True, False, False),
        *(True, False, False, True),
    ]


def test_each_journal_topic_and_partition_counts_for_itself() -> None:
    assert passed(("j", "t", 0, 9), ("j", "t", 1, 1), ("j", "u", 0, 1), ("k", "t", 0, 1), ("j", "t", 0, 9)) == [
        *(True, True, True, True),
        False,
    ]


@given(
    firsts=st.lists(st.integers(1, 50), unique=True, max_size=20).map(sorted),
    resent=st.lists(st.integers(0, 19), max_size=10),
)
def test_whatever_is_sent_again_every_message_passes_exactly_once(firsts: list[int], resent: list[int]) -> None:
    """As the relay sends: after any place it may begin again at an earlier one, and first deliveries are in order."""
    stream, at = [], 0
    for back in [*resent, 0]:
        upto = min(len(firsts), at + 3)
        stream += firsts[max(0, at - back) : upto]
        at = upto
    stream += firsts[at:]

    news = [seq for seq, new in zip(stream, passed(*[("j", "t", 0, seq) for seq in stream]), strict=True) if new]

    assert news == firsts
