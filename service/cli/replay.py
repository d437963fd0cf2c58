"""`gridgov replay`: posts a file of reports the way a careful platform would; repeats are safe, so it repeats."""

import codecs
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson
import urllib3

from schemas.reasons import Reason, message
from service.cli.command import configured, fail
from service.config import Config
from service.intake.body import BATCH_BYTES

RETRY_STATUS = (429, 502, 503, 504)
LONGEST_PAUSE = 2.0  # seconds between two tries, unless the server asks for more
REQUEST_BYTES = 1_000_000  # well below what we take, and below the 1 MiB at which many a proxy refuses by default
SOME_LINE = (400, 413)  # may be the fault of one line; 401, 403, 415 and the like are not
NO_LINE = {Reason.BAD_HOST, Reason.BAD_LENGTH}
_KEY = re.compile(rb"[!-~]+")
Line = tuple[int, bytes]  # its number in the file, from 1


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


def numbered_lines(path: Path) -> list[Line]:
    """The lines of a file that are not blank. Of one that no request can hold only the beginning is kept.

    Raises `ReplayError` if it cannot be read, or is plainly no UTF-8.
    """
    found: list[Line] = []
    try:
        with path.open("rb") as file:
            start = file.read(len(codecs.BOM_UTF8))
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise ReplayError(f"{path} is UTF-16; save it as UTF-8")
            file.seek(len(start) if start == codecs.BOM_UTF8 else 0)
            number = 0
            while line := file.readline(BATCH_BYTES + 2):  # two more for its end
                number += 1
                too_long = len(line) > BATCH_BYTES and not line.endswith(b"\n")
                if kept := line if too_long else line.strip():
                    found.append((number, kept))
                while line and not line.endswith(b"\n"):
                    line = file.readline(BATCH_BYTES)  # the rest of it
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    return found


def read_key(path: Path) -> str:
    """The API key in a file. Raises `ReplayError` if there is none."""
    try:
        key = path.read_bytes().removeprefix(codecs.BOM_UTF8).strip()
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    if not _KEY.fullmatch(key):
        raise ReplayError(f"{path} holds no API key: one word of ASCII letters, as `gridgov keys add` printed it")
    return key.decode("ascii")


class Http:
    """The API as a careful client speaks to it: what is not answered, or answered with later, is asked again.

    `tries` times at most, and not before Retry-After says so. For one thread.
    """

    def __init__(self, url: str, *, key: str | None, tries: int) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        retry = urllib3.Retry(
            total=tries,
            allowed_methods=None,  # a POST with a report_id is idempotent
            status_forcelist=RETRY_STATUS,
            backoff_factor=0.1,
            backoff_max=LONGEST_PAUSE,
            raise_on_status=False,
        )
        self._http = urllib3.PoolManager(retries=retry, timeout=urllib3.Timeout(30))

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.clear()

    def post(self, lines: bytes) -> tuple[int, bytes]:
        """Post NDJSON: status and body. Raises `ReplayError` when there is no answer."""
        return self._ask("POST", "/v1/reports/batch", lines, {"Content-Type": "application/x-ndjson"})

    def get(self, path: str) -> tuple[int, bytes]:
        """Get a path: status and body. Raises `ReplayError` when there is no answer."""
        return self._ask("GET", path, None, {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            answer = self._http.request(method, f"{self._url}{path}", body=body, headers=self._headers | headers)
        except urllib3.exceptions.HTTPError as error:
            raise ReplayError(f"{self._url}: {error}") from error
        return answer.status, answer.data


def send(
    lines: Sequence[Line],
    url: str,
    *,
    key: str | None,
    batch: int,
    tries: int,
    progress: Callable[[int], None],
) -> Outcome:
    """Post the lines in order, `batch` at a time. Raises `ReplayError` after `tries` in vain; what was sent stays."""
    outcome = Outcome()
    with Http(url, key=key, tries=tries) as http:
        for group in _groups(lines, batch):
            send_group(outcome, group, http.post)
            progress(len(group))
    return outcome


def _groups(lines: Sequence[Line], size: int) -> Iterator[list[Line]]:
    """As many lines as may go together, by number and by bytes; a long one goes alone."""
    group: list[Line] = []
    room = REQUEST_BYTES
    for line in lines:
        if group and (len(group) == size or len(line[1]) > room):
            yield group
            group, room = [], REQUEST_BYTES
        group.append(line)
        room -= len(line[1]) + 1
    if group:
        yield group


def send_group(outcome: Outcome, group: list[Line], post: Callable[[bytes], tuple[int, bytes]]) -> None:
    """Send a group; if it is refused as a whole for what may be the fault of one line, send its halves."""
    if len(group[0][1]) > BATCH_BYTES:
        details = message(Reason.BODY_TOO_LARGE, "en", limit=BATCH_BYTES)
        outcome.refused.append((group[0][0], 413, Reason.BODY_TOO_LARGE, details))
        return
    status, data = post(b"\n".join(line for _, line in group))
    answer = _read(status, data)
    if status in (202, 207):
        _note(outcome, group, answer)
    elif status not in SOME_LINE or answer.get("code") in NO_LINE or (len(group) == 1 and answer.get("retryable")):
        raise ReplayError(f"status {status} {answer.get('code', '')}: {answer.get('title', '')}")
    elif len(group) > 1:
        middle = len(group) // 2
        send_group(outcome, group[:middle], post)
        send_group(outcome, group[middle:], post)
    else:
        outcome.refused.append((group[0][0], status, answer.get("code", ""), answer.get("title", "")))


def _note(outcome: Outcome, group: list[Line], answer: dict[str, Any]) -> None:
    for result in answer["results"]:
        if result["status"] != 202:
            details = "; ".join(f"{one['pointer'] or '/'} {one['message']}" for one in result["errors"])
            outcome.refused.append((group[result["index"]][0], result["status"], result["code"], details))
    outcome.accepted += answer["accepted"]
    outcome.duplicates += answer["duplicates"]


def _read(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        answer = None
    if status == 413 and not isinstance(answer, dict):
        return {"code": "", "title": "too large for something on the way"}  # a proxy's word, in HTML
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
    A line that is refused does not hold up the others. Exits with 1 when reports were refused.
    """
    try:
        lines = numbered_lines(file)
        key = read_key(key_file) if key_file else None
    except ReplayError as error:
        fail(str(error))
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
