"""The leader's side: refused reports on their way to Kafka, at least once, beside the journal and never in its way.

A producer of its own, on a thread of its own, built when there is something to send and let go when that is done. While
the topic takes nothing they wait in their file, and the oldest give way when that is full.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from schemas.rejected import TOPIC
from service.ports import (
    JournalError,
    PauseReason,
    Pending,
    Publisher,
    PublisherBroken,
    RecordRefused,
    TopicUnavailable,
    TopicWatch,
)
from service.quarantine.store import Kept, Quarantine

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
AT_ONCE = 200
PATIENCE_SECONDS = 20.0
BACKOFF_SECONDS = 15.0


class RejectsPublisher:
    """`open` gives the quarantine, or None where nothing was ever refused; `connect` builds a publisher for its id."""

    def __init__(
        self,
        open: Callable[[], Quarantine | None],
        connect: Callable[[str], Publisher],
        watch: TopicWatch,
    ) -> None:
        self._open, self._connect, self._watch = open, connect, watch
        self._quarantine: Quarantine | None = None
        self._paused: PauseReason | None = None
        self._thread: threading.Thread | None = None

    def start(self, stop: threading.Event) -> None:
        """Publish on a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self.run, args=(stop,), name="rejects", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait a little for what is in flight."""
        if self._thread is not None:
            self._thread.join(3)

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop`. Whatever goes wrong, it is tried again: nothing else depends on it."""
        while not stop.wait(PAUSE_SECONDS):
            try:
                while self.turn() == AT_ONCE and not stop.is_set():
                    pass
            except (JournalError, PublisherBroken, TopicUnavailable) as error:
                log.warning("refused reports not published", extra={"error": f"{type(error).__name__}: {error}"})
                stop.wait(BACKOFF_SECONDS)

    def turn(self) -> int:
        """Publish some; how many are done with. Raises JournalError, PublisherBroken, TopicUnavailable."""
        if self._quarantine is not None and self._quarantine.replaced():
            self._quarantine.close()
            self._quarantine = None
        self._quarantine = quarantine = self._quarantine or self._open()
        some = quarantine.unpublished(AT_ONCE) if quarantine is not None else []
        if quarantine is None or not some or self._waits():
            return 0
        done = self._send(quarantine.id, some)
        quarantine.published(done)
        return len(done)

    def _waits(self) -> bool:
        """Whether the topic takes nothing now; said once."""
        why = self._watch.pause(TOPIC)
        if why is not None and why is not self._paused:
            log.warning("refused reports wait", extra={"topic": TOPIC, "why": why})
        self._paused = why
        return why is not None

    def _send(self, quarantine_id: str, some: Sequence[Kept]) -> set[int]:
        publisher = self._connect(quarantine_id)
        done: set[int] = set()
        try:
            for one in some:
                try:
                    publisher.send(_pending(one))
                except RecordRefused as error:
                    done.add(one.id)
                    log.warning("a refused report is refused by Kafka", extra={"id": one.id, "error": str(error)})
            publisher.push()
            end = time.monotonic() + PATIENCE_SECONDS
            while len(done) < len(some) and publisher.failure() is None and time.monotonic() < end:
                done |= {delivery.seq for delivery in publisher.deliveries()}
                time.sleep(0.01)
        finally:
            publisher.close()
        done |= {delivery.seq for delivery in publisher.deliveries()}
        return done | self._culprit(publisher)

    def _culprit(self, publisher: Publisher) -> set[int]:
        """The record that Kafka will never take, if it is known which."""
        failure = publisher.failure()
        if failure is None:
            return set()
        log.warning("refused reports not published", extra={"error": failure.error, "detail": failure.detail})
        return {failure.seq} if failure.refused and failure.seq is not None else set()


def _pending(one: Kept) -> Pending:
    return Pending(
        seq=one.id,
        topic=TOPIC,
        case_id=one.case_id or one.sender,
        headers=one.headers,
        value=one.value,
        received_at=one.at,
        attempt=1,
        sender=one.sender,
        report_id=one.report_id or "",
    )
