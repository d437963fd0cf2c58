"""What one transaction changes, gathered while its records are read."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import TopicPartition

from .ledger import FAILED, FOREIGN, Aside, Seat
from .report import Foreign, Report, read
from .selection import Selection


class Batch:
    """The news of some partitions, and where the reader stands in each after them."""

    def __init__(self) -> None:
        self.after: dict[TopicPartition, Seat] = {}
        self.reports: list[Report] = []
        self.aside: list[Aside] = []
        self.counted: Counter[str] = Counter()
        self._records: dict[tuple[str, int, int], Any] = {}

    def take(self, place: TopicPartition, before: Seat, records: Iterable[Any], select: Selection) -> None:
        """Read the records of one partition."""
        after = Seat(before.topic_id, before.at, dict(before.marks))
        for record in records:
            after.at = record.offset + 1
            try:
                report = read(record)
            except Foreign as why:
                self._put_aside(record, FOREIGN, str(why))
                continue
            if not is_news(report, after.marks):
                self.counted["duplicates"] += 1
                continue
            after.marks[report.journal_id] = report.seq
            if select.wants(report):
                self.reports.append(report)
                self._records[report[:3]] = record
            else:
                self.counted["unselected"] += 1
        self.after[place] = after

    def failed(self, report: Report, error: Exception) -> None:
        """It cannot be worked in."""
        self._put_aside(self._records[report[:3]], FAILED, f"{type(error).__name__}: {error}")

    def _put_aside(self, record: Any, what: str, why: str) -> None:
        place = (record.topic, record.partition)
        self.aside.append(Aside(place, record.offset, record.offset, what, why, record))
        self.counted[what] += 1


def is_news(report: Report, marks: Mapping[str, int]) -> bool:
    """Whether it is above all that was seen here of its journal."""
    return report.seq > marks.get(report.journal_id, 0)
