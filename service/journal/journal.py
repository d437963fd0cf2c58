"""The journal: the durable store a report is in before it is answered; a log with two readers.

The web process appends; the relay publishes, and folds reports into cases, each at its own pace: a row goes when both
have passed it. Invariants: a seq is never given twice; a row of `messages` leaves the pending state only by `hand_over`
(settled) or `park`; `accepted = settled + pending + parked` in every committed state.
"""

from service.journal.erase import Eraser
from service.journal.inbox import Inbox
from service.journal.outbox import Outbox
from service.journal.upkeep import Upkeep


class SqliteJournal(Inbox, Outbox, Upkeep, Eraser):
    """All sides of one file, for `service.app` and the command line to hand out. See `JournalFile`."""
