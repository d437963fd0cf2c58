"""All sides of a journal, wherever it is kept."""

from collections.abc import Sequence
from typing import Protocol

from service.journal.erase import Erased
from service.ports import Feed, Inbox, Outbox, Parked, Upkeep


class Journal(Inbox, Outbox, Feed, Upkeep, Protocol):
    """What processes and operators use. Every method may raise `JournalError`."""

    def parked(self) -> list[Parked]:
        """All parked messages, oldest first."""

    def requeue(self, seqs: Sequence[int]) -> dict[int, int]:
        """Give parked messages a new place at the end of the line; old seq → new seq of those that were parked.

        The new seq is what lets them pass the consumers' watermark.
        """

    def erase(self, what: str, *name: str) -> list[Erased]:
        """Erase a `report` (of a sender, of an id) or all of a `case`; what is known of each. Safe to repeat."""

    def close(self) -> None:
        """Let it go; nothing is lost by not doing so."""
