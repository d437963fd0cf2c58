"""Who is asking: keys that are kept as hashes only, rotated two at a time, and read again when their file changes."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.intake import keyfile, scopes
from service.intake import keys as auth
from service.intake.keys import LOCAL, Digest, Keys, KeysError, Role
from service.intake.scopes import Cases, Scope, ScopeError
from service.intake.signing import Secret

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "keys.json"


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file is noticed within a second; here with the next question."""
    monkeypatch.setattr(auth, "LOOK_AGAIN_SECONDS", 0)


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def test_a_key_lets_its_name_and_role_in(path: Path) -> None:
    keys = Keys(path)
    sender, reader = keys.add("platform", Role.SENDER), keys.add("centre", Role.READER)

    known = [keys.who(bearer(secret)) for secret in (sender, reader)]

    assert [(one.name, set(one.roles)) for one in known if one] == [
        ("platform", {Role.SENDER}),
        ("centre", {Role.READER}),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic {key}",
        "{key}",
        "Bearer  {key}",
        "Bearer {key} ",
        "Bearer {key}\n",
        "Bearer {key}x",
        "Bearer {short}",
        "Bearer {other}",
        "Bearer {stranger}",
        "Bearer {upper}",
        "Bearer gg__",
        "Bearer gg_00000000_" + "ſ" * 43,
    ],
)
def test_anything_but_the_key_itself_is_nobody(path: Path, wrong: str | None) -> None:
    keys = Keys(path)
    key = keys.add("platform", Role.SENDER)
    second = keys.add("platform", Role.SENDER)
    forms = {
        "key": key,
        "short": key[:-1],
        "other": key[:12] + second[12:],  # one key's id with another key's secret
        "stranger": f"gg_00000000_{key[12:]}",
        "upper": key.upper(),
    }

    assert keys.who(wrong and wrong.format(**forms)) is None
    assert keys.who(f"bearer {key}") is not None  # the scheme's case does not matter, RFC 9110


def test_the_file_holds_no_secret(path: Path) -> None:
    secret = Keys(path).add("platform", Role.SENDER)

    text = path.read_text()

    assert secret[12:] not in text
    assert hashlib.sha256(secret[12:].encode()).hexdigest() in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [other.name for other in path.parent.iterdir() if other.name.endswith(".new")] == []


def test_keys_are_of_the_published_form_and_never_alike(path: Path) -> None:
    keys = Keys(path)
    made = {keys.add(f"sender-{number}", Role.SENDER) for number in range(20)}

    assert len(made) == len({key[12:] for key in made}) == 20
    assert all(len(key) == len("gg_12345678_") + 43 for key in made)


def test_a_revoked_key_lets_nobody_in_and_stays_listed(path: Path) -> None:
    keys = Keys(path)
    old, new = keys.add("platform", Role.SENDER), keys.add("platform", Role.SENDER)

    revoked = keys.revoke(old[3:11])

    assert revoked.revoked_at is not None
    assert keys.who(bearer(old)) is None
    assert keys.who(bearer(new)) is not None
    assert {key.id: key.revoked_at is None for key in keys.all()} == {old[3:11]: False, new[3:11]: True}
    for gone in (old[3:11], "00000000"):
        with pytest.raises(KeysError):
            keys.revoke(gone)


def test_two_live_keys_are_enough_to_rotate(path: Path) -> None:
    keys = Keys(path)
    first = keys.add("platform", Role.SENDER)
    keys.add("platform", Role.SENDER)

    with pytest.raises(KeysError, match="2 live keys"):
        keys.add("platform", Role.SENDER)
    keys.revoke(first[3:11])
    keys.add("platform", Role.SENDER)

    assert len(keys.all()) == 3


def test_a_name_stands_for_one_party(path: Path) -> None:
    keys = Keys(path)
    keys.add("platform", Role.SENDER)

    with pytest.raises(KeysError, match="other role"):
        keys.add("platform", Role.READER)

    assert len(keys.all()) == 1


@pytest.mark.parametrize("name", ["", "local", "-x", "a b", "a/b", "名", "a" * 65, "a\n"])
def test_names_that_cannot_be(path: Path, name: str) -> None:
    with pytest.raises(KeysError):
        Keys(path).add(name, Role.SENDER)

    assert not path.exists()


def test_without_any_key_ever_made_nothing_is_configured(path: Path) -> None:
    keys = Keys(path)
    assert not keys.configured
    assert keys.who(bearer("gg_12345678_" + "x" * 43)) is None
    assert set(LOCAL.roles) == set(Role)

    keys.revoke(keys.add("platform", Role.SENDER)[3:11])

    assert keys.configured  # a revoked key does not open the door again


def test_a_running_process_learns_of_a_change(path: Path) -> None:
    running, elsewhere = Keys(path), Keys(path)
    secret = elsewhere.add("platform", Role.SENDER)

    assert running.configured
    assert running.who(bearer(secret)) is not None
    elsewhere.revoke(secret[3:11])
    assert running.who(bearer(secret)) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'"keys"',
        b'{"keys": 1}',
        b'{"keys": [1]}',
        b'{"keys": [{"id": "1"}]}',
        b'{"keys": [{"id": "12345678", "name": "n", "role": "king", "sha256": "", "created_at": ""}]}',
        b'{"keys": [{"id": "12345678", "name": "n", "role": "reader", "sha256": 1, "created_at": ""}]}',
        b"\xff\xfe",
    ],
)
def test_a_file_that_turns_bad_leaves_the_old_keys_valid(path: Path, damage: bytes) -> None:
    keys = Keys(path)
    secret = keys.add("platform", Role.SENDER)

    path.write_bytes(damage)

    assert keys.who(bearer(secret)) is not None
    assert keys.configured
    with pytest.raises(KeysError):
        Keys(path)


def test_a_file_that_vanishes_does_not_open_the_door(path: Path) -> None:
    keys = Keys(path)
    secret = keys.add("platform", Role.SENDER)

    path.unlink()

    assert keys.configured
    assert keys.who(bearer(secret)) is not None


def test_a_change_refuses_to_overwrite_a_bad_file(path: Path) -> None:
    keys = Keys(path)
    keys.add("platform", Role.SENDER)
    path.write_bytes(b"{")

    with pytest.raises(KeysError):
        keys.add("other", Role.SENDER)

    assert path.read_bytes() == b"{"


@pytest.mark.parametrize("where", ["file/keys.json", "file"])
def test_a_place_that_can_hold_no_keys_is_told_as_such(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("no directory")

    with pytest.raises(KeysError):
        Keys(tmp_path / where)


ADD_MANY = """
import sys
from pathlib import Path
from service.intake.keys import Keys, Role
keys = Keys(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(10):
    keys.add(f"{sys.argv[2]}-{number}", Role.SENDER)
"""


def test_changes_at_the_same_time_lose_none(path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", ADD_MANY, str(path), name], cwd=ROOT, stdin=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    for process in started:
        process.communicate("go\n")

    assert [process.returncode for process in started] == [0, 0]
    assert {key.name for key in Keys(path).all()} == {f"{name}-{n}" for name in ("one", "two") for n in range(10)}


def test_the_file_is_whole_for_whoever_reads_it(path: Path) -> None:
    keys = Keys(path)
    keys.add("platform", Role.SENDER)
    before = os.open(path, os.O_RDONLY)

    keys.add("other", Role.SENDER)

    with os.fdopen(before, "rb") as still_open:  # the old file, complete, not one half overwritten
        assert len(orjson.loads(still_open.read())["keys"]) == 1
    assert len(orjson.loads(path.read_bytes())["keys"]) == 2


# ---- what a key is for, and for how long ----


class Clock:
    """Unix seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def test_a_key_brings_its_scope(path: Path) -> None:
    scope = scopes.parse({"cases": "all", "kinds": ["repair"], "networks": ["10.0.0.0/8"], "rate": 7})
    key = Keys(path).add("platform", Role.SENDER, scope)

    known = Keys(path).who(bearer(key))

    assert known is not None
    assert (known.scope, known.key_id) == (scope, key[3:11])


def test_a_key_of_the_first_version_is_one_without_limits_for_its_own_cases(path: Path) -> None:
    key = Keys(path).add("platform", Role.SENDER)
    entries = orjson.loads(path.read_bytes())["keys"]
    old = {name: entries[0][name] for name in ("id", "name", "role", "sha256", "created_at")} | {"revoked_at": None}
    path.write_bytes(orjson.dumps({"keys": [old]}))

    known = Keys(path).who(bearer(key))

    assert known is not None
    assert known.scope == Scope()
    assert not known.scope.speaks_for_all


def test_an_expired_key_lets_nobody_in_and_makes_room_for_another(path: Path) -> None:
    clock = Clock()
    keys = Keys(path, clock=clock)
    short, long = keys.add("platform", Role.SENDER, lives=timedelta(hours=1)), keys.add("platform", Role.SENDER)
    assert None not in (keys.who(bearer(short)), keys.who(bearer(long)))

    clock.now += 3601

    assert keys.who(bearer(short)) is None
    assert keys.who(bearer(long)) is not None
    with pytest.raises(KeysError, match="no live key"):
        keys.revoke(short[3:11])
    keys.add("platform", Role.SENDER)


def test_rotating_leaves_the_old_key_a_while_and_gives_the_new_one_its_scope(path: Path) -> None:
    clock = Clock()
    keys = Keys(path, clock=clock)
    scope = scopes.parse({"kinds": ["incident"], "rate": 5})
    old = keys.add("platform", Role.SENDER, scope)

    new = keys.rotate(old[3:11], timedelta(days=1))

    assert keys.who(bearer(new)) == replace(keys.who(bearer(old)), key_id=new[3:11])  # type: ignore[type-var]
    with pytest.raises(KeysError, match="2 live keys"):
        keys.rotate(new[3:11], timedelta(days=1))
    clock.now += 86_401
    assert keys.who(bearer(old)) is None
    assert keys.who(bearer(new)) is not None
    with pytest.raises(KeysError, match="no live key"):
        keys.rotate(old[3:11], timedelta(days=1))


def test_rotating_never_makes_an_old_key_live_longer(path: Path) -> None:
    keys = Keys(path)
    old = keys.add("platform", Role.SENDER, lives=timedelta(minutes=5))

    keys.rotate(old[3:11], timedelta(days=1))

    ends = {key.id: key.expires_at for key in keys.all()}[old[3:11]]
    assert ends is not None
    assert ends < keyfile.now(timedelta(minutes=6))


def test_a_header_that_was_right_is_right_no_longer_once_its_key_is_revoked(path: Path) -> None:
    keys = Keys(path)
    key = keys.add("platform", Role.SENDER)
    assert keys.who(bearer(key)) is not None
    assert keys.who(bearer(key)) is not None  # from memory

    Keys(path).revoke(key[3:11])

    assert keys.who(bearer(key)) is None


def test_when_keys_were_last_used_is_told_to_other_processes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "USED_SECONDS", 0)
    clock, used = Clock(), path.with_name("keys-used.json")
    keys = Keys(path, used=used, clock=clock)
    first, never = keys.add("one", Role.SENDER), keys.add("two", Role.SENDER)
    keys.who(bearer(first))
    keys.who(bearer(never)[:-1])
    clock.now += 60
    third = keys.add("three", Role.SENDER)
    keys.who(bearer(third))
    assert keys.configured  # any look writes

    assert Keys(path, used=used).last_used() == {first[3:11]: clock.now - 60, third[3:11]: clock.now}
    used.write_text("[]")
    assert Keys(path, used=used).last_used() == {}


def test_what_is_wrong_with_the_file_is_told_until_it_is_mended(path: Path) -> None:
    keys = Keys(path)
    keys.add("platform", Role.SENDER)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"own"', b'"everybody"'))
    assert "cases is own or all" in str(keys.problem)
    path.write_bytes(good)

    assert keys.problem is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"cases": "some"}, "own or all"),
        ({"kinds": ["stall"]}, "stall"),
        ({"kinds": "repair"}, "list"),
        ({"categories": ["2"]}, "0211"),
        ({"categories": ["021"]}, "0211"),
        ({"networks": ["10.0.0.1/8"]}, "host bits"),
        ({"networks": ["everywhere"]}, "everywhere"),
        ({"rate": 0}, "whole number"),
        ({"rate": "5"}, "whole number"),
        ({"rate": True}, "whole number"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_scope_that_cannot_be_is_refused_with_what_is_wrong(said: dict[str, object], why: str) -> None:
    with pytest.raises(ScopeError, match=why):
        scopes.parse(said)


SCOPES = st.fixed_dictionaries(
    {},
    optional={
        "cases": st.sampled_from([*Cases]).map(str),
        "kinds": st.lists(st.sampled_from(["repair", "incident"])),
        "categories": st.lists(st.from_regex("[0-9]{2}|[0-9]{4,5}", fullmatch=True)),
        "networks": st.lists(st.ip_addresses().map(str)),
        "rate": st.integers(1, scopes.MOST_REPORTS),
    },
)


@given(SCOPES)
def test_a_scope_is_the_same_after_the_file(said: dict[str, object]) -> None:
    scope = scopes.parse(said)
    assert scopes.parse(orjson.loads(orjson.dumps(scope.dump()))) == scope


def test_what_a_scope_covers_and_admits() -> None:
    scope = scopes.parse({"kinds": ["repair"], "categories": ["02", "0304"], "networks": ["10.0.0.0/8", "2001:db8::1"]})
    covered = [(kind, code) for kind in ("repair", "incident") for code in ("0211", "0304", "0305")]
    admitted = ["10.255.0.1", "2001:db8::1", "::ffff:10.0.0.1", "11.0.0.1", "2001:db8::2", "", "unix:"]

    assert [one for one in covered if scope.covers(*one)] == [("repair", "0211"), ("repair", "0304")]
    assert [one for one in admitted if scope.admits(one)] == admitted[:3]
    assert Scope().covers("incident", "9999")
    assert Scope().admits("anywhere")


def test_a_signing_key_is_no_bearer_key(path: Path) -> None:
    keys = Keys(path)
    signing, plain = keys.add("one", Role.SENDER, digest=Digest.SM3), keys.add("two", Role.SENDER)

    assert keys.who(bearer(signing)) is None
    assert keys.secret_of(plain[3:11]) is None
    assert keys.secret_of(signing[3:11]) == Secret(Digest.SM3, signing[12:].encode())
    assert [found and found.name for found in map(keys.find, (signing, plain, plain[:12] + signing[12:], ""))] == [
        "one",
        "two",
        None,
        None,
    ]
