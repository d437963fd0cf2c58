"""What is answered to who brings a report, out of what a receipt book has under its id."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from service.ports import Conflict, Message, Receipt, State

Answers = list[Receipt | Conflict]


def accepted(m: Message) -> Receipt:
    """The first answer."""
    return Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING)


def repeat(m: Message, row: Sequence[Any]) -> Receipt | Conflict:
    """The answer to a report whose id is known."""
    return replace(receipt_of(row), duplicate=True) if row[0] == m.fingerprint else Conflict(m.report_id)


def receipt_of(row: Sequence[Any]) -> Receipt:
    """`row`: fingerprint, report_id, case_id, topic, received_at, partition, offset, settled_at, reason."""
    _, report_id, case_id, topic, received_at, partition, offset, settled_at, reason = row
    kept = State.PARKED if reason is not None else State.PENDING
    return Receipt(
        report_id=report_id,
        case_id=case_id,
        topic=topic,
        received_at=received_at,
        state=kept if settled_at is None else State.SETTLED,
        partition=partition,
        offset=offset,
        settled_at=settled_at,
        reason=reason,
    )
