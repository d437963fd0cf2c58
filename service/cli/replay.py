"""`gridgov replay`: posts a file of reports the way a careful platform would; repeats are safe, so it repeats."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import urllib3

RETRY_STATUS = (429, 502, 503, 504)
LONGEST_PAUSE = 2.0  # seconds between two tries, unless the server asks for more


class ReplayError(Exception):
    """The server could not be reached, or refused the request as a whole."""


@dataclass(slots=True)
class Outcome:
    """What became of the lines so far. `refused` holds (line number, status, code, details)."""

    accepted: int = 0
    duplicates: int = 0
    refused: list[tuple[int, int, str, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Lines answered."""
        return self.accepted + self.duplicates + len(self.refused)


def numbered_lines(path: Path) -> list[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    lines = path.read_bytes().split(b"\n")
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def replay(
    lines: Sequence[tuple[int, bytes]],
    url: str,
    *,
    key: str | None,
    batch: int,
    tries: int,
    progress: Callable[[int], None],
) -> Outcome:
    """Post the lines in order, `batch` at a time. Raises `ReplayError` after `tries` in vain; what was sent stays."""
    outcome = Outcome()
    retry = urllib3.Retry(
        total=tries,
        allowed_methods=None,  # a POST with a report_id is idempotent
        status_forcelist=RETRY_STATUS,
        backoff_factor=0.1,
        backoff_max=LONGEST_PAUSE,
        raise_on_status=False,
    )
    headers = {"Content-Type": "application/x-ndjson", **({"Authorization": f"Bearer {key}"} if key else {})}
    with urllib3.PoolManager(retries=retry, timeout=urllib3.Timeout(30)) as http:
        for group in _groups(lines, batch):
            body = b"\n".join(line for _, line in group)
            try:
                answer = http.request("POST", f"{url.rstrip('/')}/v1/reports/batch", body=body, headers=headers)
            except urllib3.exceptions.HTTPError as error:
                raise ReplayError(f"{url}: {error}") from error
            _note(outcome, group, answer.status, answer.data)
            progress(len(group))
    return outcome


def _groups(lines: Sequence[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    rest = iter(lines)
    while group := list(islice(rest, size)):
        yield group


def _note(outcome: Outcome, group: list[tuple[int, bytes]], status: int, data: bytes) -> None:
    answer = _read(status, data)
    if status not in (202, 207):
        raise ReplayError(f"status {status} {answer.get('code', '')}: {answer.get('title', '')}")
    outcome.accepted += answer["accepted"]
    outcome.duplicates += answer["duplicates"]
    for result in answer["results"]:
        if result["status"] != 202:
            details = "; ".join(f"{one['pointer'] or '/'} {one['message']}" for one in result["errors"])
            outcome.refused.append((group[result["index"]][0], result["status"], result["code"], details))


def _read(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or (status in (202, 207) and "results" not in answer):
        raise ReplayError(f"status {status}, and an answer that cannot be read: is this gridgov?")
    return answer
