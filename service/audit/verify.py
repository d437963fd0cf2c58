"""Whether the audit log is whole: every line there, in order, unchanged, from its first to its last."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from service.audit.trail import NOTHING, START, AuditError, Place, Trail, What

MOST_PROBLEMS = 20


@dataclass(slots=True)
class Verdict:
    """What was found. `torn`: lines whose writer died; the log is whole without them."""

    lines: int = 0
    torn: int = 0
    last: Place = field(default=START)
    problems: list[str] = field(default_factory=list)

    def blame(self, problem: str) -> None:
        """Note what is wrong, unless much is noted already."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def verify(trail: Trail, since: Place | None = None) -> Verdict:
    """Read all of it; nobody writes meanwhile. `since` is a line noted earlier that must still be there, unchanged.

    Whoever can write the files can also write them all anew. That shows only where the last line was noted elsewhere:
    in another log, on paper. Raises `AuditError` when the files cannot be read.
    """
    try:
        with trail.alone():
            return _verify(trail, since)
    except OSError as error:
        raise AuditError(f"{trail.directory}: {error.strerror}") from error


def _verify(trail: Trail, since: Place | None) -> Verdict:
    found, head = Verdict(), trail.head()
    noted = (head, *([since] if since else []))
    pruned = START
    began: tuple[int, str] | None = None  # the first line's place, and what it names as the one before
    torn: bytes | None = None
    for where, line in _lines(trail.files()):
        entry = _entry(line)
        if entry is None:
            if torn is not None:
                found.blame(f"{where}: not a line of an audit log")
            torn = line
            continue
        if torn is not None:
            _explain(found, where, torn, entry)
            torn = None
        seq, prev = entry["seq"], entry["prev"]
        if began is None:
            began = (seq, prev)
        elif (seq, prev) != (found.last.seq + 1, found.last.sha256):
            found.blame(f"{where}: line {seq} does not follow line {found.last.seq} as it stands before it")
        if entry["what"] == What.PRUNED:
            pruned = max(pruned, Place(entry["about"]["seq"], entry["about"]["sha256"]))
        found.last = Place(seq, hashlib.sha256(line).hexdigest())
        found.lines += 1
        if any(known.seq == seq and known != found.last for known in noted):
            found.blame(f"{where}: line {seq} reads otherwise than when it was noted")
    _check_ends(found, began, pruned, head, since)
    if torn is not None:
        found.torn += 1
    return found


def _lines(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path.name}:{number}", line.removesuffix(b"\n")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = orjson.loads(line)
        ours = {"seq": int, "prev": str, "what": str}
        whole = all(type(entry[name]) is kind for name, kind in ours.items())
        if entry["what"] == What.PRUNED:
            whole = whole and type(entry["about"]["seq"]) is int and type(entry["about"]["sha256"]) is str
    except (ValueError, TypeError, LookupError):
        return None
    return entry if whole else None


def _explain(found: Verdict, where: str, torn: bytes, entry: dict[str, Any]) -> None:
    told = entry.get("about", {}) if entry["what"] == What.TORN else {}
    if told.get("sha256") == hashlib.sha256(torn).hexdigest():
        found.torn += 1
    else:
        found.blame(f"{where}: before it stands what is no line of an audit log")


def _check_ends(found: Verdict, began: tuple[int, str] | None, pruned: Place, head: Place, since: Place | None) -> None:
    first, before = began or (1, NOTHING)
    beginning = first == 1 and before == NOTHING
    if not beginning and (first - 1 > pruned.seq or (first - 1 == pruned.seq and before != pruned.sha256)):
        found.blame(f"the log begins with line {first}, and none tells that those before were deleted for their age")
    if head.seq > found.last.seq:
        found.blame(f"lines {found.last.seq + 1} to {head.seq} are missing at the end")
    elif head.seq == 0 and found.lines:
        found.blame("head.json, which names the last line, is missing or cannot be read")
    if since is not None and since.seq > found.last.seq:
        found.blame(f"the noted line {since.seq} is not there")
