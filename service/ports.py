"""The values and protocols between the parts: what a message is, what a journal and a publisher promise.

Times are Unix milliseconds, sizes bytes. The four sides of the journal are kept by `service.journal`, `Publisher` and
`TopicWatch` by `service.broker`; a fake in the tests passes the same contract suite as the real one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct

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


class Message(Struct, frozen=True, gc=False):
    """One validated report on its way to Kafka: exactly what will be published, and who sent it."""

    sender: str
    report_id: str
    fingerprint: bytes  # 16 bytes; the same for the same content
    case_id: str  # the Kafka key
    topic: str
    headers: bytes  # the static record headers, packed (`schemas.event.pack`)
    value: bytes  # the record's value, byte for byte
    received_at: int
    fact: bytes | None = None  # what its case needs of it, packed (`domain.fact`); None: it is in the value


class Pending(NamedTuple):
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


class Entry(NamedTuple):
    """A message as the cases read it from the journal."""

    seq: int
    case_id: str
    received_at: int
    sender: str
    report_id: str
    fact: bytes | None
    value: bytes | None  # only where there is no fact


class Receipt(Struct, frozen=True, gc=False):
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


class Delivery(NamedTuple):
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

    used: int  # bytes
    limit: int
    pending: int
    parked: int
    oldest: int | None  # received_at of the oldest pending message
    disk_free: int | None = None  # bytes where it lives; None: that is somebody else's business
    scarce: bool = False  # of those so few are left that new reports are refused
    set_aside: int = 0  # corrupt journals that nobody has salvaged yet


class JournalError(Exception):
    """The journal did not take it: nothing is promised."""


class JournalFull(JournalError):
    """No room: past the hard mark, or the disk is full. Opens again by itself."""


class JournalUnavailable(JournalError):
    """It cannot write at this moment; try again."""


class JournalBusy(JournalError):
    """Too many requests wait for it already."""


class JournalBroken(JournalError):
    """It cannot be trusted any more: answer 503 and stop the process."""


class PublisherBroken(Exception):
    """This publisher will deliver nothing more: mark what it delivered and build a new one."""


class TopicUnavailable(Exception):
    """The client knows no such topic, or not yet; the message was not handed over."""


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


class Inbox(Protocol):
    """The journal as intake sees it. Every method may raise `JournalError`."""

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


class Outbox(Protocol):
    """The journal as the relay sees it. Every method may raise `JournalError`."""

    def pending(self, topic: str | None, after: int, limit: int) -> list[Pending]:
        """At most `limit` pending messages of a topic (None: of any) with seq > `after`, in seq order."""

    def last(self) -> int:
        """A seq that none which comes from now on is below; 0 when the journal is empty."""

    def topics(self) -> list[str]:
        """The topics that anything pending is for."""

    def hand_over(self, upto: Mapping[str, int], settled: Iterable[Delivery], folded: int) -> None:
        """Mark deliveries, and note per topic the highest seq that is about to be handed to Kafka.

        A settled message leaves the journal once the cases have it too: when its seq is at most `folded`. Intake waits
        meanwhile, so bring a few at a time.
        """

    def reattempt(self) -> None:
        """Count one more attempt for every pending message that was handed over before."""

    def park(self, seq: int, reason: ParkReason, detail: str, at: int) -> None:
        """Move a pending message aside."""

    def version(self) -> int:
        """A number that changes whenever anybody commits; costs microseconds."""


class Feed(Protocol):
    """The journal as the cases see it. Every method may raise `JournalError`."""

    @property
    def journal_id(self) -> str:
        """Which journal it is: a seq means something only together with it."""

    def after(self, seq: int, limit: int) -> list[Entry]:
        """At most `limit` messages beyond `seq` that the cases may not have yet, pending, settled or parked, by seq."""

    def marks(self) -> tuple[int, int]:
        """The highest seq ever given, and the highest whose row may be gone because the cases had it."""


class Upkeep(Protocol):
    """The journal as its housekeeping sees it. Every method may raise `JournalError`."""

    def totals(self) -> Totals:
        """The ledger, counted row by row: O(pending + parked)."""

    def fill(self) -> Fill:
        """How full it is; cheap enough for every scrape (nothing is counted row by row)."""

    def forget(self, before: int) -> int:
        """Drop some of the oldest receipts, of those settled before `before`; how many went."""

    def checkpoint(self) -> None:
        """Copy what was written lately to where it belongs, so that no commit has to stop for it; on a disk with
        little room left, give back some of what the journal does not use."""

    def tidy(self) -> None:
        """Give free pages back to the disk; for an idle moment."""

    def replaced(self) -> bool:
        """Whether another journal stands in this one's place."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as the cluster describes it; `partitions` is 0 when there is none."""

    name: str
    partitions: int = 0
    replication: int = 0
    in_sync: int = 0  # the smallest number of in-sync replicas over its partitions
    leaderless: bool = False
    writable: bool = True
    min_in_sync: int = 1
    max_message_bytes: int = 1_048_588
    settings: Mapping[str, str] = field(default_factory=dict, compare=False)  # by Kafka's names; {}: not told
    id: str = field(default="", compare=False)  # another one after it was deleted and made anew

    @property
    def pause(self) -> PauseReason | None:
        """Why nothing can be published to it now, or None."""
        if not self.writable:
            return PauseReason.UNAUTHORISED
        if self.partitions == 0:
            return PauseReason.MISSING
        if self.leaderless:
            return PauseReason.LEADERLESS
        return PauseReason.TOO_FEW_REPLICAS if self.in_sync < self.min_in_sync else None


class TopicWatch(Protocol):
    """What the relay asks of the cluster, as of its last answer."""

    reachable: bool
    topics: dict[str, Topic]

    def pause(self, name: str) -> PauseReason | None:
        """Why nothing can be published to a topic, or None."""


class Clock(Protocol):
    """The time of day and the time that only goes on, both in seconds; the module `time` is one."""

    def time(self) -> float:
        """Unix seconds; may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def sleep(self, seconds: float, /) -> None:
        """Return after so many."""


class Publisher(Protocol):
    """The Kafka side of the relay. Keeps order per key; delivers nothing after its first failure."""

    def send(self, message: Pending) -> None:
        """Hand over without waiting for the broker.

        Raises `RecordRefused`, `TopicUnavailable` (not handed over) or `PublisherBroken`.
        """

    def push(self) -> None:
        """Have all that was handed over sent; what is not pushed may wait."""

    def deliveries(self) -> list[Delivery]:
        """What was acknowledged since the last call."""

    def failure(self) -> Failure | None:
        """What stopped it, or None while it works."""

    def close(self) -> None:
        """Stop for good without sending what is left. After this `deliveries` and `failure` are final."""
