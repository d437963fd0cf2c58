"""Who is asking: keys that are kept as hashes only, rotated two at a time, and read again when their file changes."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from service.intake import keys as auth
from service.intake.keys import LOCAL, Keys, KeysError, Role

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
