"""Messages for tests, as intake would make them."""

from __future__ import annotations

import hashlib

from service.ports import Message

NOW = 1_604_448_000_000  # 2020-11-04 08:00:00 in Shanghai


def message(
    report_id: str = "r-1",
    *,
    sender: str = "platform",
    case_id: str = "case-1",
    topic: str = "topic-a",
    value: bytes = b"{}",
    received_at: int = NOW,
    fingerprint: bytes | None = None,
) -> Message:
    """The content that makes two of one id conflict is their `value`, unless a fingerprint is given."""
    return Message(
        sender=sender,
        report_id=report_id,
        fingerprint=fingerprint or hashlib.blake2b(value, digest_size=16).digest(),
        case_id=case_id,
        topic=topic,
        headers=f"1.0\n{report_id}\n{sender}".encode(),
        value=value,
        received_at=received_at,
    )
