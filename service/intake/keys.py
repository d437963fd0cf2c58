"""Who is asking. Keys are `gg_<id>_<secret>`; of a bearer key's secret only its SHA-256 is kept."""

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import orjson

from service.files import one_at_a_time, replace_whole
from service.intake import keyfile
from service.intake.keyfile import NAME, Digest, Key, KeysError, Role, Stamp
from service.intake.scopes import NOTHING_BARRED, Cases, Scope
from service.intake.signing import Secret

__all__ = ["LOCAL", "Digest", "Key", "Keys", "KeysError", "Principal", "Role"]

log = logging.getLogger(__name__)

LIVE_KEYS_PER_SENDER = 2  # one in use and its successor: enough to rotate, not enough to forget
LOOK_AGAIN_SECONDS = 1.0
USED_SECONDS = 10.0  # between two writings of when keys were last used
_BEARER = re.compile(r"Bearer gg_([0-9a-f]{8})_([A-Za-z0-9_-]{43})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what that key may be used for."""

    name: str
    roles: frozenset[Role]
    scope: Scope = NOTHING_BARRED
    key_id: str = ""


LOCAL = Principal("local", frozenset(Role))


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it is at hand: everything that a request needs of it is worked out."""

    ends: float
    principal: Principal
    sha256: bytes
    signs: Secret | None = field(repr=False)


class Keys:
    """The keys of a file, read again when it changes: a look each second, on the way of some request.

    A file that turns bad leaves the old keys valid, which `problem` tells. `used`: where to keep when each key was last
    used, if anywhere. `clock` gives Unix seconds. Raises `KeysError` when the file cannot be read at start.
    """

    def __init__(self, path: Path, *, used: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path, self._used_path, self._clock = path, used, clock
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._look_at = 0.0
        self._keys: dict[str, Key] = {}
        self._entries: dict[str, Entry] = {}
        self._shown: dict[bytes, Entry] = {}  # by the digest of an Authorization header
        self._used: dict[str, float] = {}
        self._used_at = 0.0
        self._problem: str | None = None
        self._refresh()

    # ---- asking ----

    @property
    def configured(self) -> bool:
        """Whether there is any key, an ended one too: once there is, nobody is let in without one."""
        self._look()
        return bool(self._keys)

    @property
    def problem(self) -> str | None:
        """Why the file that is there now is not the one that counts."""
        self._look()
        return self._problem

    def all(self) -> list[Key]:
        """Every key, ended ones too, oldest first."""
        self._look()
        return sorted(self._keys.values(), key=lambda key: key.created_at)

    def who(self, authorization: str | None) -> Principal | None:
        """Whose bearer key an Authorization header holds, or None."""
        self._look()
        if authorization is None:
            return None
        right = self._shown  # what was right once is right until the file changes, which brings another of these
        shown = hashlib.sha256(authorization.encode(errors="surrogatepass")).digest()
        entry = right.get(shown) or self._checked(authorization)
        if entry is None:
            return None
        right[shown] = entry
        return self._let_in(entry)

    def _checked(self, authorization: str) -> Entry | None:
        match = _BEARER.fullmatch(authorization)
        entry = self._entries.get(match[1]) if match else None
        if match is None or entry is None or entry.signs is not None:
            return None
        same = hmac.compare_digest(hashlib.sha256(match[2].encode()).digest(), entry.sha256)
        return entry if same else None

    def find(self, key: str) -> Key | None:
        """The key that somebody holds, bearer or signing, ended or not; it does not count as used."""
        match = _BEARER.fullmatch(f"Bearer {key}")
        entry = self._entries.get(match[1]) if match else None
        if match is None or entry is None:
            return None
        shown = match[2].encode() if entry.signs else hashlib.sha256(match[2].encode()).digest()
        same = hmac.compare_digest(shown, entry.signs.secret if entry.signs else entry.sha256)
        return self._keys[match[1]] if same else None

    def secret_of(self, key_id: str) -> Secret | None:
        """What the signing key of that id signs with, ended or not. Who has checked with it calls `signed`."""
        self._look()
        entry = self._entries.get(key_id)
        return entry.signs if entry is not None else None

    def signed(self, key_id: str) -> Principal | None:
        """Whose key has signed, or None when it has ended."""
        entry = self._entries.get(key_id)
        return self._let_in(entry) if entry is not None else None

    def last_used(self) -> dict[str, float]:
        """Key id → Unix seconds of its last use, as the process that answers requests writes it every few seconds."""
        return _read_used(self._used_path)

    def _let_in(self, entry: Entry) -> Principal | None:
        now = self._clock()
        if now >= entry.ends:
            return None
        self._used[entry.principal.key_id] = now
        return entry.principal

    # ---- changing ----

    def add(
        self,
        name: str,
        role: Role,
        scope: Scope | None = None,
        *,
        digest: Digest | None = None,
        lives: timedelta | None = None,
    ) -> str:
        """Make a key and return it; it cannot be shown again. `digest` makes a signing key. Raises `KeysError`."""
        if not NAME.fullmatch(name):
            raise KeysError("a name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
        if name == LOCAL.name:
            raise KeysError(f"{name!r} is the name of requests without a key; choose another")
        if digest is not None and not digest.known:
            raise KeysError(f"this Python's OpenSSL has no {digest}; use another Python, or --signs sha256")
        usual = Scope(cases=Cases.ALL if role is Role.READER else Cases.OWN)
        made, key = _made(name, role, scope or usual, digest, lives)
        with keyfile.changing(self._path) as keys:
            self._check_room(keys, key)
            keys[key.id] = key
        self._refresh()
        return made

    def rotate(self, key_id: str, keep: timedelta, *, scope: Scope | None = None) -> str:
        """Make a successor with the same name, role and scope (or another); the old key ends after `keep`."""
        with keyfile.changing(self._path) as keys:
            old = self._live(keys, key_id)
            made, key = _made(old.name, old.role, scope or old.scope, old.digest, None)
            self._check_room(keys, key)
            ends = keyfile.now(keep)
            keys[key_id] = replace(old, expires_at=min(ends, old.expires_at or ends))
            keys[key.id] = key
        self._refresh()
        return made

    def revoke(self, key_id: str) -> Key:
        """End a key. Raises `KeysError` when there is no such live key."""
        with keyfile.changing(self._path) as keys:
            keys[key_id] = revoked = replace(self._live(keys, key_id), revoked_at=keyfile.now())
        self._refresh()
        return revoked

    def _live(self, keys: dict[str, Key], key_id: str) -> Key:
        key = keys.get(key_id)
        if key is None or key.ends <= self._clock():
            raise KeysError(f"no live key {key_id!r}; see `gridgov keys list`")
        return key

    def _check_room(self, keys: dict[str, Key], new: Key) -> None:
        theirs = [key for key in keys.values() if key.name == new.name and key.ends > self._clock()]
        if any(key.role is not new.role for key in theirs):
            raise KeysError(f"{new.name} already has a key of the other role; names stand for one party each")
        if len(theirs) >= LIVE_KEYS_PER_SENDER:
            raise KeysError(f"{new.name} has {len(theirs)} live keys; revoke one first")

    # ---- the file ----

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        try:
            self._refresh()
        except KeysError as error:
            self._look_at = now + LOOK_AGAIN_SECONDS
            if self._problem != str(error):  # once, not each second
                log.error("keys not reloaded, the old ones stay", extra={"error": str(error)})
            self._problem = str(error)
        if self._used and now >= self._used_at:
            self._used_at = now + USED_SECONDS
            self._write_used()

    def _refresh(self) -> None:
        with self._lock:
            self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
            stamp = keyfile.stamp(self._path)
            if stamp == self._stamp:
                self._problem = None
                return
            if stamp is None and self._keys:
                raise KeysError(f"{self._path} has vanished")
            keys = keyfile.read(self._path)
            self._entries = {key.id: _entry(key) for key in keys.values()}
            self._shown = {}  # after the entries: who finds it empty must not fill it with old ones
            self._keys, self._stamp, self._problem = keys, stamp, None

    def _write_used(self) -> None:
        """Not flushed: what a lost machine takes with it here is of no importance."""
        if self._used_path is not None:
            used, self._used = self._used, {}
            with (
                suppress(OSError),
                one_at_a_time(self._used_path.with_suffix(".lock")),
            ):  # a full disk is told by others
                replace_whole(self._used_path, orjson.dumps(_read_used(self._used_path) | used))


def _made(name: str, role: Role, scope: Scope, digest: Digest | None, lives: timedelta | None) -> tuple[str, Key]:
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    key = Key(key_id, name, role, keyfile.now(), scope, expires_at=None if lives is None else keyfile.now(lives))
    if digest is not None:
        return f"gg_{key_id}_{secret}", replace(key, digest=digest, secret=secret)
    return f"gg_{key_id}_{secret}", replace(key, sha256=hashlib.sha256(secret.encode()).hexdigest())


def _entry(key: Key) -> Entry:
    principal = Principal(key.name, frozenset((key.role,)), key.scope, key.id)
    signs = Secret(key.digest, key.secret.encode()) if key.digest else None
    return Entry(key.ends, principal, bytes.fromhex(key.sha256), signs)


def _read_used(path: Path | None) -> dict[str, float]:
    try:
        return {str(key): float(at) for key, at in orjson.loads(path.read_bytes()).items()} if path else {}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
