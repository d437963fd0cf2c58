"""The key file: JSON, 0600, written whole under a lock, read whole or not at all."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from service.files import one_at_a_time, write_whole
from service.intake import scopes
from service.intake.scopes import Scope

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
Stamp = tuple[int, int, int]


class KeysError(Exception):
    """The key file cannot be used, or a change to it makes no sense."""


class Role(StrEnum):
    """What a key is for."""

    SENDER = "sender"  # posts reports; sees its own receipts
    READER = "reader"  # sees every case, posts nothing


class Digest(StrEnum):
    """What a signing key signs with: the one, so that nobody can choose a weaker one for it."""

    SHA256 = "sha256"
    SM3 = "sm3"  # GB/T 32905; of OpenSSL, whose builds may leave it out

    @property
    def known(self) -> bool:
        """Whether this Python's OpenSSL has it."""
        return self in hashlib.algorithms_available


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept. A bearer key is kept as its hash; a signing key's secret must be known to check with."""

    id: str
    name: str
    role: Role
    created_at: str
    scope: Scope
    sha256: str = ""
    digest: Digest | None = None  # of a signing key
    secret: str = ""  # likewise; it never travels
    expires_at: str | None = None
    revoked_at: str | None = None

    @property
    def ends(self) -> float:
        """Unix seconds from which on it lets nobody in."""
        return min(_seconds(at) if at else float("inf") for at in (self.expires_at, self.revoked_at))

    def dump(self) -> dict[str, Any]:
        """As the file has it, without what is not there."""
        said = {name: getattr(self, name) for name in ("id", "name", "role", "sha256", "digest", "secret")}
        said |= {"created_at": self.created_at, "expires_at": self.expires_at, "revoked_at": self.revoked_at}
        return {name: value for name, value in said.items() if value} | {"scope": self.scope.dump()}


def read(path: Path) -> dict[str, Key]:
    """Every key by its id, none when there is no file. Raises `KeysError`."""
    try:
        entries = orjson.loads(path.read_bytes())["keys"]
        keys = [_key(entry) for entry in entries]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KeysError(f"{path}: {type(error).__name__}: {error}") from error
    found = {key.id: key for key in keys}
    if len(found) != len(keys):
        raise KeysError(f"{path}: two keys have the same id")
    return found


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Key]]:
    """The keys to be changed, nobody else changing them; written when this is left without an error."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with one_at_a_time(path.with_suffix(".lock")):
        keys = read(path)
        yield keys
        said = {"keys": [key.dump() for key in keys.values()]}
        write_whole(path, orjson.dumps(said, option=orjson.OPT_INDENT_2))


def stamp(path: Path) -> Stamp | None:
    """What tells one state of the file from another; None when there is none. Raises `KeysError`."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_ino, status.st_size


def now(ahead: timedelta = timedelta()) -> str:
    """The time as the file has it."""
    return (datetime.now(UTC) + ahead).strftime(_TIME)


def _key(entry: dict[str, Any]) -> Key:
    """One entry. Raises KeyError, TypeError or ValueError, without ever naming a secret."""
    if not (_ID.fullmatch(entry["id"]) and NAME.fullmatch(entry["name"])):
        raise ValueError(f"key {entry['id']!r}: its id or name cannot be")
    try:
        if not isinstance(said := entry.get("scope", {}), dict):
            raise ValueError("its scope is no object")
        digest = entry.get("digest")
        known = {**entry, "role": Role(entry["role"]), "scope": scopes.parse(said), "digest": digest and Digest(digest)}
        key = Key(**known)
        if key.digest is not None and not key.digest.known:
            raise ValueError(f"this Python's OpenSSL has no {key.digest}; use another Python, or a key with sha256")
        if not (_SECRET.fullmatch(key.secret) if key.digest else _SHA256.fullmatch(key.sha256)):
            raise ValueError("a signing key needs its secret, any other its sha256")
        _ = key.ends
    except (TypeError, ValueError) as error:
        raise ValueError(f"key {entry['id']}: {error}") from None
    return key


def _seconds(at: str) -> float:
    return datetime.strptime(at, _TIME).replace(tzinfo=UTC).timestamp()
