"""What a journal needs beside its two readers: the ledger, its fill, old receipts, and messages that were parked."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import orjson

from service.journal.file import PAGE_BYTES, JournalFile, count
from service.journal.tables import WAITING
from service.ports import Fill, Parked, Totals

PAGES_AT_ONCE = 200  # given back while room is short: all that must be moved for it goes through the WAL
_AGAIN = """
INSERT INTO messages(topic, case_id, headers, value, received_at, attempt, sender, report_id, fact)
SELECT topic, case_id, headers, value, received_at, attempt+1, sender, report_id, fact FROM parked WHERE seq=?
RETURNING seq
"""
# The lowest pending seq, by the index of each topic: settled rows that wait for the cases may lie before it in numbers.
_OLDEST = f"""
SELECT min((SELECT seq FROM messages WHERE settled=0 AND topic=one.topic ORDER BY seq LIMIT 1)) FROM {WAITING} one
"""


class Upkeep(JournalFile):
    """Kept for `ports.Upkeep`, and for the operators."""

    def totals(self) -> Totals:
        """See `ports.Upkeep.totals`."""
        [(meta, pending, parked)] = self._store.read(
            "SELECT (SELECT json_group_object(key, value) FROM meta WHERE key!='journal_id'),"
            " (SELECT COUNT(*) FROM messages WHERE settled=0), (SELECT COUNT(*) FROM parked)"
        )
        kept: dict[str, int] = orjson.loads(meta)
        missing = kept["accepted"] - kept["settled"] - kept["parked"] - pending
        mismatch = abs(missing) + abs(kept["parked"] - parked)
        return Totals(kept["accepted"], kept["settled"], pending, parked, mismatch)

    def fill(self) -> Fill:
        """See `ports.Upkeep.fill`."""
        [(used, unused, pending, parked, oldest)] = self._store.read(
            "SELECT (pages.page_count - free.freelist_count) * size.page_size, free.freelist_count * size.page_size,"
            " (SELECT SUM(CASE key WHEN 'accepted' THEN value ELSE -value END) FROM meta"
            "   WHERE key IN ('accepted', 'settled', 'parked')),"
            " (SELECT value FROM meta WHERE key='parked'),"
            f" (SELECT received_at FROM messages WHERE seq=({_OLDEST}))"
            " FROM pragma_page_count pages, pragma_freelist_count free, pragma_page_size size"
        )
        return Fill(
            used=used,
            limit=self.room.limit,
            pending=pending,
            parked=parked,
            oldest=oldest,
            disk_free=shutil.disk_usage(self.directory).free,
            scarce=self.room.scarce(unused),
            set_aside=len(set_aside(self.directory)),
        )

    def forget(self, before: int, limit: int = 500) -> int:
        """See `ports.Upkeep.forget`."""
        old = "FROM settlements WHERE settled_at<?1 AND seq IN (SELECT seq FROM settlements ORDER BY seq LIMIT ?2)"
        with self._store.transaction() as db:
            db.execute(f"DELETE FROM receipts WHERE seq IN (SELECT seq {old})", (before, limit))
            db.execute(f"DELETE {old}", (before, limit))
            return db.changes()

    def checkpoint(self) -> None:
        """See `ports.Upkeep.checkpoint`."""
        [(pages,)] = self._store.read("PRAGMA freelist_count")
        if self.room.hoarding(pages * PAGE_BYTES):
            self._store.tidy(PAGES_AT_ONCE)
        else:
            self._store.checkpoint()

    def tidy(self) -> None:
        """See `ports.Upkeep.tidy`."""
        self._store.tidy()

    def parked(self) -> list[Parked]:
        """All parked messages, oldest first."""
        sql = (
            "SELECT seq, topic, sender, report_id, case_id, length(value), reason, detail, parked_at"
            " FROM parked ORDER BY seq"
        )
        return [Parked(*row) for row in self._store.read(sql)]

    def requeue(self, seqs: Sequence[int]) -> dict[int, int]:
        """Give parked messages a new place at the end of the line; old seq → new seq of those that were parked.

        The new seq is what lets them pass the consumers' watermark.
        """
        moved: dict[int, int] = {}
        with self._store.transaction() as db:
            for seq in seqs:
                for (new,) in db.execute(_AGAIN, (seq,)).fetchall():
                    moved[seq] = int(new)  # type: ignore[arg-type]  # a number
                    db.execute("DELETE FROM parked WHERE seq=?", (seq,))
                    db.execute("UPDATE receipts SET seq=? WHERE seq=?", (new, seq))
            count(db, parked=-len(moved))
        return moved


def set_aside(directory: Path) -> list[Path]:
    """The corrupt journals that were set aside in `directory`, oldest first, but for those already salvaged."""
    return [path for path in sorted(directory.glob("corrupt-*")) if not (path / "salvaged").exists()]
