"""Careful clients that keep posting while something breaks, and write down what they sent and were promised."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, cycle

import orjson
import urllib3

from tests.system.checker import Json, Ledger

STAGES = ("reported", "dispatched", "arrived", "finished", "approved")
EVERY_TOPIC = (  # a category per topic; minor 99 is open in every major class
    *(("repair", f"{major}99") for major in ("01", "02", "03", "04", "05", "06", "21")),
    *(("incident", f"{major}99") for major in ("01", "02", "03", "04", "05", "21")),
)
RETRY_SECONDS = 0.05


class Clients:
    """Careful platforms that post while something breaks: `threads` of them, each with cases of its own.

    Stage after stage of a case, one post at a time, under the same id until there is a 202; of several urls each post
    goes to the next. In a `with` block; at its end each gets its last report answered. `pace` is a pause between two
    reports; `every` the time from the start of one to that of the next, unless its answer takes longer, and then the
    clients take turns; both in seconds.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        ledger: Ledger,
        prefix: str,
        *,
        threads: int = 8,
        pace: float = 0.0,
        every: float = 0.0,
        where: Sequence[tuple[str, str]] = EVERY_TOPIC,
    ) -> None:
        self._urls = cycle([url] if isinstance(url, str) else url)
        self._ledger, self._prefix, self._where = ledger, prefix, where
        self._pace, self._every = pace, every
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._threads = [  # daemons: one that asks for ever a service that is gone must not keep the run from ending
            threading.Thread(target=self._guarded, args=(number,), daemon=True) for number in range(threads)
        ]
        self._errors: list[BaseException] = []
        self.told: Counter[str] = Counter()  # accepted, duplicate, broken (no answer to a post), refused, unreached

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        if self._errors:
            raise self._errors[0]
        assert not any(thread.is_alive() for thread in self._threads), "a client is still without its answer"

    @property
    def answered(self) -> int:
        """Reports that have their 202."""
        return self.told["accepted"] + self.told["duplicate"]

    def _guarded(self, number: int) -> None:
        try:
            self._work(number)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self._errors.append(error)

    def _work(self, number: int) -> None:
        self._stop.wait(self._every * number / len(self._threads))
        with urllib3.PoolManager(maxsize=1, retries=False, timeout=urllib3.Timeout(20)) as http:
            for case in count():
                for report in case_of(f"{self._prefix}-{number}-{case}", *self._where[case % len(self._where)]):
                    if self._stop.is_set():
                        return
                    begun = time.monotonic()
                    self._ledger.sent(report)
                    self._ledger.accepted(self._until_accepted(http, report))
                    self._stop.wait(max(self._pace, begun + self._every - time.monotonic()))

    def _until_accepted(self, http: urllib3.PoolManager, report: Json) -> Json:
        while True:
            receipt = self._post(http, orjson.dumps(report))
            if receipt is not None:
                assert receipt["report_id"] == report["report_id"], "somebody else's answer"
                return receipt
            threading.Event().wait(RETRY_SECONDS)

    def _post(self, http: urllib3.PoolManager, body: bytes) -> Json | None:
        kind = {"Content-Type": "application/json"}
        try:
            answer = http.request("POST", f"{next(self._urls)}/v1/reports", body=body, headers=kind)
        except urllib3.exceptions.NewConnectionError:
            self._tell("unreached")
            return None
        except urllib3.exceptions.HTTPError:
            self._tell("broken")
            return None
        if answer.status == 503:
            self._tell("refused")
            return None
        receipt: Json = orjson.loads(answer.data)
        assert answer.status == 202, receipt
        self._tell("duplicate" if receipt["duplicate"] else "accepted")
        return receipt

    def _tell(self, what: str) -> None:
        with self._counting:
            self.told[what] += 1


def case_of(case: str, kind: str, category: str) -> Iterator[Json]:
    """The reports of one case, in order."""
    for minute, stage in enumerate(STAGES):
        yield {
            "report_id": f"{case}-{minute}",
            "case_id": f"case-{case}",
            "kind": kind,
            "category": category,
            "stage": stage,
            "occurred_at": f"2020-11-04T08:{minute:02}:00+08:00",
            "location": {"address": "杨树浦路 × 秦皇岛路", "x": 121.51, "y": 31.25, "crs": "WGS84"},
            "description": f"第 {minute} 步",
        }
