"""Who is asking, and may they. Keys are `gg_<id>_<secret>`; of a secret only its SHA-256 is kept."""

import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from service.files import write_whole

log = logging.getLogger(__name__)

LIVE_KEYS_PER_SENDER = 2  # one in use and its successor: enough to rotate, not enough to forget
LOOK_AGAIN_SECONDS = 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(r"Bearer gg_([0-9a-f]{8})_([A-Za-z0-9_-]{43})", re.IGNORECASE)


class Role(StrEnum):
    """What a key is for."""

    SENDER = "sender"  # posts reports; sees its own receipts
    READER = "reader"  # sees every case, posts nothing


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    name: str
    roles: frozenset[Role]


LOCAL = Principal("local", frozenset(Role))


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept."""

    id: str
    name: str
    role: Role
    sha256: str
    created_at: str
    revoked_at: str | None = None


class KeysError(Exception):
    """The key file cannot be used, or a change to it makes no sense."""


class Keys:
    """The key file: read when it changes, written whole under a lock. A file that turns bad leaves the old keys valid.

    Raises `KeysError` when the file cannot be read at start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._look_at = 0.0
        self._keys: dict[str, Key] = {}
        self._refresh()

    @property
    def configured(self) -> bool:
        """Whether there is any key, a revoked one too: once there is, nobody is let in without one."""
        self._look()
        return bool(self._keys)

    def all(self) -> list[Key]:
        """Every key, revoked ones too, oldest first."""
        self._look()
        return sorted(self._keys.values(), key=lambda key: key.created_at)

    def who(self, authorization: str | None) -> Principal | None:
        """Whose key an Authorization header holds, or None."""
        self._look()
        match = _BEARER.fullmatch(authorization or "")
        key = self._keys.get(match[1]) if match else None
        if match is None or key is None or key.revoked_at is not None:
            return None
        same = hmac.compare_digest(hashlib.sha256(match[2].encode()).hexdigest(), key.sha256)
        return Principal(key.name, frozenset((key.role,))) if same else None

    def add(self, name: str, role: Role) -> str:
        """Make a key and return it; it cannot be shown again. Raises `KeysError`."""
        if not _NAME.fullmatch(name):
            raise KeysError("a name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        if name == LOCAL.name:
            raise KeysError(f"{name!r} is the name of requests without a key; choose another")
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        with self._changing() as keys:
            theirs = [key for key in keys.values() if key.name == name and key.revoked_at is None]
            if any(key.role is not role for key in theirs):
                raise KeysError(f"{name} already has a key of the other role; names stand for one party each")
            if len(theirs) >= LIVE_KEYS_PER_SENDER:
                raise KeysError(f"{name} has {len(theirs)} live keys; revoke one first")
            keys[key_id] = Key(key_id, name, role, digest, _now())
        return f"gg_{key_id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """End a key. Raises `KeysError` when there is no such live key."""
        with self._changing() as keys:
            key = keys.get(key_id)
            if key is None or key.revoked_at is not None:
                raise KeysError(f"no live key {key_id!r}; see `gridgov keys list`")
            keys[key_id] = replace(key, revoked_at=_now())
            return keys[key_id]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = dict(_read(self._path))
            yield keys
            _write(self._path, keys)
        finally:
            os.close(lock)
        self._refresh()

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        try:
            self._refresh()
        except KeysError as error:
            self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
            log.error("keys not reloaded, the old ones stay", extra={"error": str(error)})

    def _refresh(self) -> None:
        with self._lock:
            self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return
            if stamp is None and self._keys:
                raise KeysError(f"{self._path} has vanished")
            self._keys = _read(self._path)
            self._stamp = stamp


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_ino


def _read(path: Path) -> dict[str, Key]:
    try:
        entries = orjson.loads(path.read_bytes())["keys"]
        return {entry["id"]: _key(entry) for entry in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KeysError(f"{path}: {type(error).__name__}: {error}") from error


def _key(entry: dict[str, Any]) -> Key:
    if not (_NAME.fullmatch(entry["name"]) and _SHA256.fullmatch(entry["sha256"])):
        raise ValueError(f"key {entry['id']}: its name or sha256 cannot be")
    return Key(**{**entry, "role": Role(entry["role"])})


def _write(path: Path, keys: dict[str, Key]) -> None:
    write_whole(path, orjson.dumps({"keys": [asdict(key) for key in keys.values()]}, option=orjson.OPT_INDENT_2))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
