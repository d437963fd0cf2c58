"""The pods of the manifests as real processes: read-only root, the volumes' paths, no privileges, the manifest's ports.

There is no cluster here, and no Kafka in the pods' network: they are ready all the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.certificates import Authority
from tests.gridgov import NO_KAFKA, Gridgov, report, until
from tests.kubernetes.manifests import options_of, rendered, workload
from tests.kubernetes.pod import Pod
from tests.postgresql import Postgresql

API = "http://127.0.0.1:8080"
Start = Callable[..., tuple[Pod, str]]


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, dict[str, bytes]]:
    """The Secrets that the guide has made, of real keys and certificates."""
    authority = Authority(tmp_path / "ca", "kafka")
    certificate, key = tmp_path / "user.crt", tmp_path / "user.key"
    authority.issue("gridgov", certificate, key)
    return {
        "kafka-cluster-ca-cert": {"ca.crt": authority.certificate.read_bytes()},
        "gridgov": {"user.crt": certificate.read_bytes(), "user.key": key.read_bytes()},
    }


@pytest.fixture
def desk(tmp_path: Path) -> Gridgov:
    """Where keys are made, whose file becomes a Secret."""
    return Gridgov(tmp_path / "desk", NO_KAFKA)


@pytest.fixture
def started(tmp_path: Path, secrets: dict[str, dict[str, bytes]], desk: Gridgov) -> Iterator[Start]:
    """Starts the pod of an overlay: it, and a key that it knows."""
    if os.geteuid() != 0:
        if "CI" in os.environ:
            pytest.fail("namespaces take root, which CI is")
        pytest.skip("namespaces take root")
    pods: list[Pod] = []

    def start(
        overlay: str, *reached: int, change: Callable[[dict[str, Any]], None] = lambda _: None, home: str = "pod"
    ) -> tuple[Pod, str]:
        documents = rendered(overlay)
        made = workload(documents)
        change(made)
        key = new_key(desk)
        secrets["gridgov-keys"] = {"keys.json": (desk.data_dir / "keys.json").read_bytes()}
        (tmp_path / home).mkdir()
        pods.append(Pod(made, options_of(documents), secrets, tmp_path / home))
        pods[-1].start(*reached)
        return pods[-1], key

    yield start
    for pod in pods:
        pod.kill()


def new_key(desk: Gridgov, *more: str) -> str:
    done = desk.run("keys", "add", "platform", "--role", "sender", *more, check=True)
    return next(word for word in (done.stdout + done.stderr).split() if word.startswith("gg_"))


def ready(pod: Pod) -> None:
    """As the kubelet goes about it: that they have started first, Kafka or no Kafka."""
    for name, probe in (("web", "startupProbe"), ("relay", "startupProbe"), ("web", "readinessProbe")):
        until(partial(pod.passes, name, probe), f"{name}'s {probe}", seconds=60)


def post(pod: Pod, key: str, number: str) -> tuple[int, str]:
    said = ("-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {key}")
    return pod.ask(f"{API}/v1/reports", *said, "--data-binary", orjson.dumps(report(number)).decode())


def test_the_embedded_pod_accepts_with_what_the_manifest_gives_it(started: Start, desk: Gridgov) -> None:
    pod, key = started("embedded")
    ready(pod)
    status, answer = post(pod, key, "pod")
    assert (status, orjson.loads(answer)["duplicate"]) == (202, False)
    assert pod.passes("web", "livenessProbe")
    assert pod.passes("relay", "livenessProbe")

    second = new_key(desk)  # a Secret that changes reaches who runs
    assert post(pod, second, "pod-2")[0] == 401
    pod.renew("gridgov-keys", {"keys.json": (desk.data_dir / "keys.json").read_bytes()})
    until(lambda: post(pod, second, "pod-2")[0] == 202, "the new key is known")

    assert pod.end() == {"web": 0, "relay": 0}, "both end within the grace period"
    assert "Read-only file system" not in pod.log("web") + pod.log("relay")
    pod.start()
    ready(pod)
    status, answer = post(pod, key, "pod")
    assert (status, orjson.loads(answer)["duplicate"]) == (202, True), "the volume has kept it"


def test_replicas_know_what_each_has_accepted(
    started: Start, secrets: dict[str, dict[str, bytes]], postgresql: Postgresql
) -> None:
    secrets["gridgov-postgresql"] = {"uri": postgresql.url.encode()}
    first, key = started("replicas", postgresql.port, home="first")
    second, _ = started("replicas", postgresql.port, home="second")
    ready(first)
    ready(second)
    status, answer = post(first, key, "shared")
    assert (status, orjson.loads(answer)["duplicate"]) == (202, False)
    assert first.end() == {"web": 0, "relay": 0}
    shutil.rmtree(first.home)  # its disk is gone too
    status, answer = post(second, key, "shared")
    assert (status, orjson.loads(answer)["duplicate"]) == (202, True)
    assert "flushed by the primary" in second.ask("http://127.0.0.1:9464/readyz")[1], "what a 202 means here"


def test_links_to_services_would_be_taken_for_options(started: Start) -> None:
    def linked(made: dict[str, Any]) -> None:
        made["spec"]["template"]["spec"]["enableServiceLinks"] = True

    pod, _ = started("embedded", change=linked)
    assert pod.processes["web"].wait(60) != 0
    assert "GRIDGOV_PORT" in pod.log("web")
