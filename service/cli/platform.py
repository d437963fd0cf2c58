"""An upstream platform: several connections that post at once, each in order, and that lose nothing on the way."""

import queue
import threading
from collections.abc import Sequence
from zlib import crc32

from service.cli.replay import Http, Line, Outcome, ReplayError, send_group

TRIES = 10_000  # two seconds apart at most: hours
WAITING = 1000  # reports a connection may be behind


class Platform:
    """Posts what it is given over `connections`; what is of one case goes over one of them, in order.

    To be used as a context: leaving it waits until all is answered. Raises `ReplayError`, also from `post`, when the
    API refuses to talk at all, or does not for hours.
    """

    def __init__(self, url: str, *, key: str | None, connections: int, batch: int) -> None:
        self._url, self._key, self._batch = url, key, batch
        self._failed: ReplayError | None = None
        self._queues = [queue.Queue[Line | None](WAITING) for _ in range(connections)]
        self._outcomes = [Outcome() for _ in self._queues]
        self._threads = [
            threading.Thread(target=self._work, args=pair, daemon=True)
            for pair in zip(self._queues, self._outcomes, strict=True)
        ]

    def __enter__(self) -> "Platform":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            for one in self._queues:
                one.put(None)
            for thread in self._threads:
                thread.join()
            self._look()

    def post(self, number: int, case_id: str, line: bytes, *, again: bool) -> None:
        """Post one report, when its turn comes. One that was posted before comes in by another door."""
        self._look()
        door = (crc32(case_id.encode()) + again) % len(self._queues)
        self._queues[door].put((number, line))

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """What became of it so far, by connection."""
        return self._outcomes

    def _look(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _work(self, waiting: "queue.Queue[Line | None]", outcome: Outcome) -> None:
        with Http(self._url, key=self._key, tries=TRIES) as http:
            ended = False
            while not ended:
                group = self._next(waiting)
                ended = group[-1] is None
                if lines := [line for line in group if line is not None]:
                    self._send(outcome, lines, http)

    def _send(self, outcome: Outcome, lines: list[Line], http: Http) -> None:
        if self._failed is not None:  # the others have found out: what is still waiting would fail as well
            return
        try:
            send_group(outcome, lines, http.post)
        except ReplayError as error:
            self._failed = error

    def _next(self, waiting: "queue.Queue[Line | None]") -> list[Line | None]:
        """What waits, at least one, at most a batch; None comes last."""
        group = [waiting.get()]
        while group[-1] is not None and len(group) < self._batch:
            try:
                group.append(waiting.get_nowait())
            except queue.Empty:
                break
        return group
