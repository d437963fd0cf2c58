"""`gridgov replay`: posts a file of reports the way a careful platform would; repeats are safe, so it repeats."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click
import orjson
import urllib3

from service.cli.command import configured, fail
from service.config import Config

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


def send(
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


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", help="Where the API is; default this machine's.")
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the API key.")
@click.option("--batch", type=click.IntRange(1, 1000), default=100, show_default=True, help="Reports per request.")
@click.option("--tries", type=click.IntRange(0, 10000), default=100, show_default=True, help="Before giving up.")
@configured
def replay(  # noqa: PLR0917 - click gives one per option
    config: Config, file: Path, url: str | None, key_file: Path | None, batch: int, tries: int
) -> None:
    """Post the reports of FILE (NDJSON, one per line), in order.

    Whatever is not answered is sent again under the same report_id, which is always safe; Retry-After is honoured.
    Exits with 1 when reports were refused.
    """

    lines = numbered_lines(file)
    key = key_file.read_text(encoding="ascii").strip() if key_file else None
    with click.progressbar(length=len(lines), label=file.name, file=sys.stderr, show_pos=True) as bar:
        try:
            outcome = send(
                lines,
                url or f"http://{config.host}:{config.port}",
                key=key,
                batch=batch,
                tries=tries,
                progress=bar.update,
            )
        except ReplayError as error:
            fail(f"\nstopped: {error}\nwhat was answered is safe; run it again to send the rest")
    click.echo(f"accepted {outcome.accepted}  duplicate {outcome.duplicates}  refused {len(outcome.refused)}")
    for line, status, code, details in outcome.refused:
        click.echo(f"  line {line}: {status} {code} {details}")
    if outcome.refused:
        sys.exit(1)
