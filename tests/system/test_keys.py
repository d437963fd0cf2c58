"""Who may do what: keys, roles, and what is never let in or written down."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.broker import Kafka
from tests.gridgov import Gridgov, report, running, until
from tests.system.refusals import Refusal, ask, refusal

NOWHERE = "127.0.0.1:1"  # no Kafka is there, and none is needed to refuse
UNAUTHENTICATED: Refusal = (401, "unauthenticated", [])
FORBIDDEN: Refusal = (403, "forbidden", [])


def add_key(gridgov: Gridgov, name: str, role: str = "sender", *scope: str) -> str:
    """A new key, as the command line prints it."""
    return gridgov.run("keys", "add", name, "--role", role, *scope, check=True).stdout.strip()


def key_id(key: str) -> str:
    return key.split("_")[1]


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def posted(gridgov: Gridgov, key: str | None, name: str) -> int:
    return ask(gridgov, "POST", "/v1/reports", report(name), with_key(key) if key else {}).status


@contextmanager
def web_only(gridgov: Gridgov) -> Iterator[Gridgov]:
    """`gridgov web`, ready, without a relay."""
    try:
        gridgov.start("web")
        yield gridgov.ready()
    finally:
        gridgov.stop()


@pytest.fixture(scope="module")
def guarded(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov that asks for keys."""
    patient = {"GRIDGOV_AUTH_FAILURES": "100000"}  # all that is tried here comes from one address
    own = Gridgov(tmp_path_factory.mktemp("guarded") / "var", kafka.bootstrap, patient)
    usual = os.umask(0o022)  # what files get unless a program takes care
    try:
        add_key(own, "first")
        with running(own):
            yield own
    finally:
        os.umask(usual)


@pytest.fixture(scope="module")
def platform(guarded: Gridgov) -> str:
    """The district platform's key."""
    return known(guarded, add_key(guarded, "platform"))


@pytest.fixture(scope="module")
def hotline(guarded: Gridgov) -> str:
    """Another sender's key."""
    return known(guarded, add_key(guarded, "hotline"))


@pytest.fixture(scope="module")
def centre(guarded: Gridgov) -> str:
    """The operations sub-centre's key: a reader."""
    return known(guarded, add_key(guarded, "sub-centre", "reader"))


def known(gridgov: Gridgov, key: str) -> str:
    """The key, once the running service knows it."""
    until(lambda: ask(gridgov, "GET", "/v1/catalogue", headers=with_key(key)).status == 200, "it is known")
    return key


# ---- without keys ----


def test_without_keys_this_machine_is_let_in_and_nobody_else(shared: Gridgov) -> None:
    assert shared.post(report("local"))[0] == 202
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        for value in ("203.0.113.7", "127.0.0.1", ""):
            for method, path in (
                ("POST", "/v1/reports"),
                ("POST", "/v1/reports/batch"),
                ("GET", "/v1/reports/r-local"),
            ):
                asked = refusal(shared, b"{}", method=method, path=path, headers={name: value})
                assert asked == UNAUTHENTICATED, f"{method} {path} with {name}: {value!r}"


def test_who_shows_a_key_that_is_none_is_not_taken_for_local(shared: Gridgov) -> None:
    for shown in ("Bearer gg_00000000_" + "A" * 43, "Bearer", "", "Basic bG9jYWw6"):
        assert refusal(shared, report("x"), headers={"Authorization": shown}) == UNAUTHENTICATED


def test_the_first_key_ends_the_time_without_keys_and_losing_the_file_does_not_bring_it_back(tmp_path: Path) -> None:
    with web_only(Gridgov(tmp_path / "var", NOWHERE)) as own:
        assert posted(own, None, "open") == 202
        key = known(own, add_key(own, "platform"))
        until(lambda: posted(own, None, "open") == 401, "a key is asked for")
        assert ask(own, "GET", "/v1/reports/r-open", headers=with_key(key)).status == 404  # it is local's
        until(lambda: posted(own, key, "used") and " used 20" in own.run("keys", "list").stdout, "its use is told")
        (own.data_dir / "keys.json").unlink()
        until(lambda: posted(own, key, "kept") and "keys not reloaded" in own.log, "it is noticed")
        assert (posted(own, None, "open"), posted(own, key, "kept")) == (401, 202)
        (own.data_dir / "keys.json").write_text("{")
        assert (posted(own, None, "open"), posted(own, key, "kept")) == (401, 202)
        assert "keys_not_reloaded" in ask(own, "GET", "/readyz").json["reasons"]
        assert own.metrics()["gridgov_keys_stale"] == 1


# ---- with keys ----

ALL = [("POST", "/v1/reports"), ("POST", "/v1/reports/batch"), ("GET", "/v1/reports/r-1"), ("GET", "/v1/catalogue")]


@pytest.mark.parametrize(("method", "path"), ALL)
def test_no_key_no_answer(guarded: Gridgov, method: str, path: str) -> None:
    assert refusal(guarded, b"not even JSON", method=method, path=path) == UNAUTHENTICATED
    assert ask(guarded, method, path, b"").headers["WWW-Authenticate"] == "Bearer"


def test_a_key_that_is_almost_right(guarded: Gridgov, platform: str) -> None:
    another = add_key(guarded, "another")
    wrong = {
        "last letter": platform[:-1] + ("A" if platform[-1] != "A" else "B"),
        "one letter more": platform + "A",
        "one letter less": platform[:-1],
        "the secret of another": platform[:12] + another[12:],
        "no such id": "gg_ffffffff_" + platform[12:],
        "only the secret": platform[12:],
        "blank behind": platform + " ,",
    }
    for what, key in wrong.items():
        assert refusal(guarded, report("x"), headers=with_key(key)) == UNAUTHENTICATED, what
    for shown in (platform, f"Basic {platform}", f"Token {platform}", f"Bearer Bearer {platform}"):
        assert refusal(guarded, report("x"), headers={"Authorization": shown}) == UNAUTHENTICATED
    assert posted(guarded, platform, "right") == 202


def test_probes_and_metrics_ask_for_no_key(guarded: Gridgov) -> None:
    assert [ask(guarded, "GET", path).status for path in ("/livez", "/readyz", "/metrics")] == [200] * 3


def test_a_reader_reads_and_does_not_post(guarded: Gridgov, centre: str) -> None:
    assert refusal(guarded, report("read"), headers=with_key(centre)) == FORBIDDEN
    assert refusal(guarded, [report("read")], path="/v1/reports/batch", headers=with_key(centre)) == FORBIDDEN
    assert refusal(guarded, b"not even JSON", headers=with_key(centre)) == FORBIDDEN
    assert ask(guarded, "GET", "/v1/catalogue", headers=with_key(centre)).status == 200


def test_ids_are_each_senders_own(guarded: Gridgov, platform: str, hotline: str) -> None:
    receipts = []
    for key, case in ((platform, "case-of-platform"), (hotline, "case-of-hotline")):
        answer = ask(guarded, "POST", "/v1/reports", report("scoped", case_id=case), with_key(key))
        assert (answer.status, answer.json["duplicate"]) == (202, False)
        receipts.append(ask(guarded, "GET", "/v1/reports/r-scoped", headers=with_key(key)).json["case_id"])
    assert receipts == ["case-of-platform", "case-of-hotline"]
    other = report("scoped", case_id="case-of-hotline")
    assert refusal(guarded, other, headers=with_key(platform)) == (409, "conflict", [])


def test_another_senders_receipt_is_not_there(guarded: Gridgov, platform: str, hotline: str) -> None:
    assert posted(guarded, platform, "mine") == 202
    path = "/v1/reports/r-mine"
    assert ask(guarded, "GET", path, headers=with_key(platform)).status == 200
    assert refusal(guarded, None, method="GET", path=path, headers=with_key(hotline)) == (404, "not_found", [])


def test_two_keys_of_one_sender_are_one_sender(guarded: Gridgov, platform: str) -> None:
    second = known(guarded, add_key(guarded, "platform"))
    assert posted(guarded, platform, "rotated") == 202
    again = ask(guarded, "POST", "/v1/reports", report("rotated"), with_key(second))
    assert (again.status, again.json["duplicate"]) == (202, True)


def test_a_revoked_key_ends_within_seconds_and_the_others_do_not(guarded: Gridgov, platform: str) -> None:
    key = known(guarded, add_key(guarded, "leaver"))
    assert guarded.run("keys", "revoke", key_id(key)).returncode == 0
    until(lambda: posted(guarded, key, "left") == 401, "the key has ended")
    assert refusal(guarded, report("left"), headers=with_key(key)) == UNAUTHENTICATED
    assert posted(guarded, platform, "stays") == 202


# ---- with a scope ----


def test_a_key_for_some_reports_only(guarded: Gridgov) -> None:
    key = known(guarded, add_key(guarded, "repairs", "sender", "--kind", "repair", "--category", "02"))
    assert posted(guarded, key, "fits") == 202
    other = report("other", category="0304")
    assert refusal(guarded, other, headers=with_key(key)) == (403, "forbidden", [("/category", "outside_scope")])
    answer = ask(guarded, "POST", "/v1/reports/batch", [report("fits-2"), other], with_key(key))
    assert [one["status"] for one in answer.json["results"]] == [202, 403]


def test_a_key_for_elsewhere_only(guarded: Gridgov) -> None:
    key = add_key(guarded, "far", "sender", "--network", "192.0.2.0/24")
    until(lambda: posted(guarded, key, "far") == 403, "it is known, and not let in from here")
    assert refusal(guarded, report("far"), headers=with_key(key)) == (403, "wrong_network", [])


def test_more_than_a_key_allows_has_to_wait_and_others_have_not(guarded: Gridgov, platform: str) -> None:
    key = known(guarded, add_key(guarded, "much", "sender", "--rate", "1"))
    batch = [report(f"much-{n}") for n in range(1000)]
    first, _, last = (ask(guarded, "POST", "/v1/reports/batch", batch, with_key(key)) for _ in range(3))
    assert (first.status, first.json["accepted"]) == (202, 1000)
    assert first.headers["RateLimit-Policy"] == '"reports";q=10;w=10'
    assert (last.status, last.json["code"], last.json["retryable"]) == (429, "rate_limited", True)
    assert int(last.headers["Retry-After"]) >= 1
    assert posted(guarded, platform, "meanwhile") == 202


def test_rotating_a_key(guarded: Gridgov) -> None:
    old = known(guarded, add_key(guarded, "turning", "sender", "--kind", "repair", "--expires", "90d"))
    assert posted(guarded, old, "turning") == 202
    done = guarded.run("keys", "rotate", key_id(old), "--keep", "0m", "--cases", "all", check=True)
    new = known(guarded, done.stdout.strip())
    until(lambda: posted(guarded, old, "turning") == 401, "the old one has ended")
    assert posted(guarded, new, "turned") == 202
    listed = {line.split()[0]: line for line in guarded.run("keys", "list", check=True).stdout.splitlines()}
    assert "cases=all kinds=repair  live" in listed[key_id(new)]
    assert "cases=own kinds=repair  expired" in listed[key_id(old)]


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        ([], 0, ""),
        (["--from", "192.0.2.77", "--report", "repair", "0211"], 0, ""),
        (["--from", "198.51.100.1"], 1, "may not be used from"),
        (["--report", "incident", "0211"], 1, "may not report"),
    ],
)
def test_a_key_is_tried_without_being_used(tmp_path: Path, options: list[str], code: int, why: str) -> None:
    own = Gridgov(tmp_path / "var", NOWHERE)
    key = add_key(own, "tried", "sender", "--kind", "repair", "--network", "192.0.2.0/24")
    done = own.run("keys", "test", *options, given=f"{key}\n")
    assert (done.returncode, done.stdout.split()[2]) == (code, "tried")
    assert why in done.stderr
    assert key not in done.stdout + done.stderr
    wrong = own.run("keys", "test", given=key[:-1])
    assert (wrong.returncode, wrong.stdout) == (1, "")


# ---- the command line ----


def test_keys_are_listed_without_their_secrets(guarded: Gridgov, platform: str, centre: str) -> None:
    gone = add_key(guarded, "gone")
    guarded.run("keys", "revoke", key_id(gone), check=True)
    listed = guarded.run("keys", "list", check=True).stdout
    lines = {line.split()[0]: line for line in listed.splitlines()}
    assert lines[key_id(platform)].split()[1:3] == ["sender", "platform"]
    assert lines[key_id(platform)].endswith("live")
    assert lines[key_id(centre)].split()[1:3] == ["reader", "sub-centre"]
    assert "revoked" in lines[key_id(gone)]
    assert not any(secret[12:] in listed for secret in (platform, centre, gone))


def test_a_name_has_two_live_keys_at_most(guarded: Gridgov) -> None:
    first, second = add_key(guarded, "rotating"), add_key(guarded, "rotating")
    third = guarded.run("keys", "add", "rotating", "--role", "sender")
    assert (third.returncode, third.stdout) == (1, "")
    assert "revoke one first" in third.stderr
    guarded.run("keys", "revoke", key_id(first), check=True)
    assert add_key(guarded, "rotating") not in {first, second}


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        (["add", "local", "--role", "sender"], 1, "without a key"),
        (["add", "first", "--role", "reader"], 1, "other role"),
        (["add", "a name", "--role", "sender"], 1, "a name is"),
        (["add", "名字", "--role", "sender"], 1, "a name is"),
        (["add", "nobody", "--role", "admin"], 2, "admin"),
        (["revoke", "ffffffff"], 1, "no live key"),
        (["rotate", "ffffffff"], 1, "no live key"),
        (["add", "nobody", "--role", "sender", "--network", "here"], 1, "10.1.0.0/16"),
        (["add", "nobody", "--role", "sender", "--expires", "soon"], 2, "90d"),
    ],
)
def test_what_makes_no_sense_is_refused(guarded: Gridgov, command: list[str], code: int, why: str) -> None:
    done = guarded.run("keys", *command)
    assert (done.returncode, done.stdout) == (code, "")
    assert why in done.stderr


# ---- what is written down ----


def files_of(gridgov: Gridgov) -> dict[Path, os.stat_result]:
    found = {}
    for path in (gridgov.data_dir, *gridgov.data_dir.rglob("*")):
        with suppress(FileNotFoundError):  # a draft that has just been renamed
            found[path] = path.stat()
    return found


def test_no_secret_is_written_anywhere(guarded: Gridgov, platform: str, hotline: str, centre: str) -> None:
    for key in (platform, hotline, centre):
        posted(guarded, key, "secret")
        posted(guarded, key + "x", "secret")
    whole = b"".join(path.read_bytes() for path, status in files_of(guarded).items() if stat.S_ISREG(status.st_mode))
    whole += guarded.log.encode() + ask(guarded, "GET", "/metrics").data
    assert key_id(platform).encode() in whole  # so we do look where keys are
    for key in (platform, hotline, centre):
        assert key[12:].encode() not in whole


def test_files_are_for_their_owner_only(guarded: Gridgov, platform: str) -> None:
    posted(guarded, platform, "modes")
    until((guarded.data_dir / "relay.json").exists, "the relay has told how it fares")
    modes = {path.name: stat.filemode(status.st_mode) for path, status in files_of(guarded).items()}
    assert {"keys.json", "journal.sqlite3", "journal.sqlite3-wal", "relay.json"} <= modes.keys()
    assert [modes.pop(name) for name in ("var", "audit")] == ["drwx------"] * 2
    assert {name: mode for name, mode in modes.items() if mode != "-rw-------"} == {}


# ---- start ----


@pytest.mark.parametrize("command", ["web", "run"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_only_loopback_is_served(tmp_path: Path, command: str, host: str) -> None:
    done = Gridgov(tmp_path / "var", NOWHERE, {"GRIDGOV_HOST": host}).run(command)
    assert done.returncode == 2
    assert f"GRIDGOV_HOST={host}" in done.stderr
    assert "gridgov keys add" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_a_key_every_address_is_served_and_the_key_asked_for(tmp_path: Path) -> None:
    own = Gridgov(tmp_path / "var", NOWHERE, {"GRIDGOV_HOST": "0.0.0.0"})
    key = add_key(own, "platform")
    with web_only(own):
        assert (posted(own, None, "open"), posted(own, key, "open")) == (401, 202)


WRONG = {
    "GRIDGOV_PORT": "99999",
    "GRIDGOV_THREADS": "many",
    "GRIDGOV_UNKNOWN_MINOR": "maybe",
    "GRIDGOV_NONSENSE": "1",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka",
}
WRONG_TOGETHER = {
    "GRIDGOV_THREADS": "0",
    "GRIDGOV_KAFKA_CA_FILE": "/nowhere/ca.pem",
    "GRIDGOV_KAFKA_PROTOCOL": "SASL_SSL",
}


@pytest.mark.parametrize("wrong", [WRONG, WRONG_TOGETHER], ids=["by themselves", "of several sorts"])
def test_all_wrong_options_are_listed_at_once(tmp_path: Path, wrong: dict[str, str]) -> None:
    done = Gridgov(tmp_path / "var", NOWHERE, wrong).run("run")
    assert done.returncode == 2
    assert [name for name in wrong if name not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "var").exists()


def test_every_problem_of_a_start_is_listed_at_once(tmp_path: Path) -> None:
    wrong = {"GRIDGOV_PORT": "abc", "GRIDGOV_HOST": "0.0.0.0", "GRIDGOV_KEYS_FILE": str(tmp_path / "keyz.json")}
    done = Gridgov(tmp_path / "var", "127.0.0.1:1", wrong).run("web")
    assert done.returncode == 2
    assert [name for name in wrong if f"- {name}=" not in done.stderr] == []


def test_without_any_key_the_log_says_so(tmp_path: Path) -> None:
    with running(Gridgov(tmp_path / "var", "127.0.0.1:1")) as gridgov:
        assert gridgov.log.count("no API key") == 1
