"""Signed requests over HTTP: by the clients that are shipped, replayed, tampered with, and ended."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.kafka.broker import java, prepare_set
from tests.gridgov import Gridgov, report, until
from tests.system.refusals import Refusal, ask, refusal
from tests.system.test_serializers import JARS

CLIENTS = Path(__file__).parents[2] / "deploy" / "signing"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """The web process alone, with a bearer key, so that nobody is let in for being here."""
    own = Gridgov(tmp_path_factory.mktemp("signed") / "var", "127.0.0.1:1")
    own.run("keys", "add", "bearer", "--role", "sender", check=True)
    try:
        own.start("web")
        yield own.ready()
    finally:
        own.stop()


def made(gridgov: Gridgov, name: str, digest: str = "sha256", *more: str) -> str:
    """A signing key that the service knows."""
    key = gridgov.run("keys", "add", name, "--role", "sender", "--signs", digest, *more, check=True).stdout.strip()
    path = "/v1/catalogue"
    headers = signed(key, b"", digest=digest, method="GET", path=path)
    until(lambda: ask(gridgov, "GET", path, headers=headers).status == 200, "it is known")
    return key


def signed(
    key: str, body: bytes, *, digest: str = "sha256", method: str = "POST", path: str = "/v1/reports"
) -> dict[str, str]:
    """The headers of a signed request, by hand."""
    hashed, stamp = hashlib.new(digest, body).hexdigest(), str(int(time.time()))
    route, _, query = path.partition("?")
    text = "\n".join((method, route, "&".join(sorted(query.split("&"))), hashed, stamp))
    signature = hmac.new(key[12:].encode(), text.encode(), digest).hexdigest()
    return {"X-App-Key": key[:11], "X-Timestamp": stamp, "X-Content-Digest": hashed, "X-Signature": signature}


def sent(*command: Any, key: str, digest: str = "sha256") -> str:
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, "GRIDGOV_KEY": key, "GRIDGOV_DIGEST": digest},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("digest", ["sha256", "sm3"])
def test_the_shell_client_and_the_python_client(guarded: Gridgov, tmp_path: Path, digest: str) -> None:
    for program in ("openssl", "curl"):
        assert shutil.which(program), f"no {program} here; `sh deploy/packages.sh test` installs it"
    key, file = made(guarded, f"shell-{digest}", digest), tmp_path / "r.json"
    file.write_bytes(orjson.dumps(report(f"shell-{digest}")))
    url = f"{guarded.url}/v1/reports"
    told = sent("sh", CLIENTS / "client.sh", url, file, key=key, digest=digest)
    assert '"duplicate":false' in told
    assert told.endswith("202\n")
    told = sent(sys.executable, CLIENTS / "client.py", url, file, key=key, digest=digest)
    assert told.startswith("202 ")
    assert '"duplicate":true' in told


def test_the_java_client(guarded: Gridgov, tmp_path: Path) -> None:
    key, file = made(guarded, "java"), tmp_path / "r.json"
    file.write_bytes(orjson.dumps(report("java")))
    [compiler] = prepare_set(JARS).glob("ecj-*.jar")
    sent(java(), "-jar", compiler, "-17", "-proc:none", "-d", tmp_path, CLIENTS / "Client.java", key=key)
    told = sent(java(), "-cp", tmp_path, "Client", f"{guarded.url}/v1/reports", file, key=key)
    assert told.startswith("202 ")


def test_what_was_changed_on_the_way_is_refused_and_what_is_replayed_is_one_report(guarded: Gridgov) -> None:
    key, body = made(guarded, "replayed"), orjson.dumps(report("replayed"))
    headers = signed(key, body)
    assert [ask(guarded, "POST", "/v1/reports", body, headers).json["duplicate"] for _ in range(2)] == [False, True]
    for process in guarded.processes:
        process.kill()
    guarded.stop()
    guarded.start("web")
    guarded.ready()
    assert ask(guarded, "POST", "/v1/reports", body, headers).json["duplicate"] is True
    bad: Refusal = (401, "bad_signature", [])
    assert refusal(guarded, body.replace(b"0211", b"0212"), headers=headers) == bad
    assert refusal(guarded, body, path="/v1/reports/batch", headers=headers) == bad
    assert refusal(guarded, body, headers={**headers, "X-Timestamp": str(int(headers["X-Timestamp"]) - 1)}) == bad
    stale = {**headers, "X-Timestamp": str(int(headers["X-Timestamp"]) - 400)}
    assert refusal(guarded, body, headers=stale) == (401, "stale_timestamp", [])
    assert refusal(guarded, body, headers={"Authorization": f"Bearer {key}"})[:2] == (401, "unauthenticated")


def test_a_query_is_signed_and_an_ended_key_signs_no_more(guarded: Gridgov) -> None:
    key = made(guarded, "asking")
    path = "/v1/cases?phase=approved&kind=repair"
    headers = signed(key, b"", method="GET", path=path)
    assert ask(guarded, "GET", path, headers=headers).status == 200
    assert ask(guarded, "GET", "/v1/cases?kind=repair&phase=approved", headers=headers).status == 200
    assert refusal(guarded, None, method="GET", path="/v1/cases?phase=approved", headers=headers)[1] == "bad_signature"
    guarded.run("keys", "revoke", key[3:11], check=True)
    until(lambda: ask(guarded, "GET", path, headers=headers).status == 401, "the key has ended")
    assert refusal(guarded, None, method="GET", path=path, headers=headers)[1] == "unauthenticated"
