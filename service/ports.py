"""The values and protocols between the parts: what a message is, what a journal and a publisher promise.

Times are Unix milliseconds, sizes bytes. `Journal` is kept by `service.journal.journal`, `Publisher` by
`service.broker.publisher`; each has a fake in the tests that passes the same contract suite as the real one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

EVERYTHING = 2**63 - 1  # a seq above all others


class State(StrEnum):
    """Where an accepted report is."""

    PENDING = "pending"  # in the journal, not yet acknowledged by Kafka
    SETTLED = "settled"  # acknowledged by Kafka
    PARKED = "parked"  # Kafka will never take it as it is; kept until somebody requeues it


class ParkReason(StrEnum):
    """Why Kafka will never take this record as it is."""

    RECORD_TOO_LARGE = "record_too_large"  # larger than the topic's max.message.bytes
    RECORD_REFUSED = "record_refused"  # the broker or the client refuses this very record


class PauseReason(StrEnum):
    """Why a topic takes nothing at the moment, while the others flow."""

    UNKNOWN = "unknown"  # the cluster has not told us about it yet
    MISSING = "missing"  # no such topic
    UNAUTHORISED = "unauthorised"  # we may not write to it
    LEADERLESS = "leaderless"  # a partition has no leader
    TOO_FEW_REPLICAS = "too_few_replicas"  # fewer in-sync replicas than min.insync.replicas
    CLOCK_WRONG = "clock_wrong"  # Kafka refuses the time of day that we stamp on records


@dataclass(frozen=True, slots=True)
class Message:
    """One validated report on its way to Kafka: exactly what will be published, and who sent it."""

    sender: str
    report_id: str
    fingerprint: bytes  # 16 bytes; the same for the same content
    case_id: str  # the Kafka key
    topic: str
    headers: bytes  # the static record headers as a JSON object of strings
    value: bytes  # the record's value, byte for byte
    received_at: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A message as the relay reads it from the journal."""

    seq: int
    topic: str
    case_id: str
    headers: bytes
    value: bytes
    received_at: int
    attempt: int  # 1 the first time it is handed to Kafka
    sender: str
    report_id: str

    @property
    def size(self) -> int:
        """Bytes this message takes in a window: what it carries, framing left out."""
        return len(self.value) + len(self.headers) + len(self.case_id)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the journal knows of one accepted report."""

    report_id: str
    case_id: str
    topic: str
    received_at: int
    state: State
    duplicate: bool = False  # this answer repeats an earlier one
    partition: int | None = None
    offset: int | None = None
    settled_at: int | None = None
    reason: str | None = None  # why it is parked


@dataclass(frozen=True, slots=True)
class Conflict:
    """The id was accepted before with other content; nothing was written."""

    report_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Kafka has acknowledged this message."""

    seq: int
    partition: int
    offset: int
    at: int


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that Kafka will never take as it is."""

    seq: int
    topic: str
    sender: str
    report_id: str
    case_id: str
    size: int
    reason: str
    detail: str
    parked_at: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The ledger: accepted = settled + pending + parked. `mismatch` is what does not add up (0 = exact)."""

    accepted: int
    settled: int
    pending: int
    parked: int
    mismatch: int


@dataclass(frozen=True, slots=True)
class Fill:
    """How full the journal is."""

    used: int  # bytes of pages in use, free pages not counted
    limit: int
    pending: int
    parked: int
    oldest: int | None  # received_at of the oldest pending message
    disk_free: int  # bytes of the file system it lives on
    scarce: bool  # of those so few are left that new reports are refused
    set_aside: int  # corrupt journals beside it that nobody has salvaged yet


class JournalError(Exception):
    """The journal did not take it: nothing is promised."""


class JournalFull(JournalError):
    """No room: past the hard mark, or the disk is full. Opens again by itself."""


class JournalUnavailable(JournalError):
    """It cannot write at this moment; try again."""


class JournalBusy(JournalError):
    """Too many requests wait for it already."""


class JournalBroken(JournalError):
    """The file cannot be trusted any more: answer 503 and stop the process."""


class PublisherBroken(Exception):
    """This publisher will deliver nothing more: mark what it delivered and build a new one."""


class TopicUnavailable(Exception):
    """The topic takes nothing now; the message was not handed over."""

    def __init__(self, reason: PauseReason) -> None:
        super().__init__(reason)
        self.reason = reason


class RecordRefused(Exception):
    """This message will never be taken; it was not handed over."""

    def __init__(self, reason: ParkReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a publisher stopped: what it met first. `refused` or `paused` tells whose fault it was, if known."""

    seq: int | None  # the message it met this with
    error: str  # the class name of the client's error
    detail: str
    refused: ParkReason | None = None  # the record's fault
    alone: bool = False  # the record was alone in its batch, so the fault is surely its own
    paused: PauseReason | None = None  # the topic's fault

    @property
    def explained(self) -> bool:
        """Whether it is known whose fault it was."""
        return self.refused is not None or self.paused is not None


class Journal(Protocol):
    """Both sides of the journal. Every method may raise `JournalError`."""

    @property
    def closed_to_new(self) -> bool:
        """Whether new reports are refused for want of room, as of the last write."""

    def append(self, submissions: Sequence[Sequence[Message]]) -> list[list[Receipt | Conflict] | JournalFull]:
        """Write whole submissions in one flushed transaction; one answer per submission, in order.

        When this returns the messages survive a power loss. A submission that holds anything new while the
        journal is past its hard mark gets `JournalFull` and leaves nothing behind.
        """

    def probe(self) -> None:
        """Raise what an append would raise now; changes nothing."""

    def receipt(self, sender: str, report_id: str) -> Receipt | None:
        """The sender's own receipt, or None."""

    def pending(self, topic: str, after: int, limit: int) -> list[Pending]:
        """At most `limit` pending messages of a topic with seq > `after`, in seq order."""

    def hand_over(self, upto: Mapping[str, int], settled: Iterable[Delivery], folded: int) -> None:
        """Mark deliveries, and note per topic the highest seq that is about to be handed to Kafka.

        A settled message leaves the journal once the cases have it too: when its seq is at most `folded`.
        """

    def reattempt(self) -> None:
        """Count one more attempt for every pending message that was handed over before."""

    def park(self, seq: int, reason: ParkReason, detail: str, at: int) -> None:
        """Move a pending message aside."""

    def version(self) -> int:
        """A number that changes whenever anybody commits."""


class Publisher(Protocol):
    """The Kafka side of the relay. Keeps order per key; delivers nothing after its first failure."""

    def send(self, message: Pending) -> None:
        """Hand over without waiting for the broker.

        Raises `RecordRefused`, `TopicUnavailable` (not handed over) or `PublisherBroken`.
        """

    def deliveries(self) -> list[Delivery]:
        """What was acknowledged since the last call."""

    def failure(self) -> Failure | None:
        """What stopped it, or None while it works."""

    def close(self) -> None:
        """Stop for good without sending what is left. After this `deliveries` and `failure` are final."""
