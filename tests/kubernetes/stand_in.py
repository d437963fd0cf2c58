"""A kubectl for who follows the guide without a cluster.

It refuses what a cluster would: a manifest that is not right by the published schemas, a pod whose Secrets or keys in
them are not there, a name that was never applied.

What Strimzi's operator makes for a KafkaUser it makes too; `exec` runs the command here. State: $KUBECTL_STATE.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

from tests.kubernetes.schemas import Document, documents, problems
from tests.kubernetes.tools import KUBERNETES, kustomize

STATE = Path(os.environ["KUBECTL_STATE"])
WORKLOADS = {"StatefulSet", "Deployment"}


def refuse(why: str) -> NoReturn:
    sys.exit(f"kubectl: {why}")


def place(kind: str, namespace: str, name: str) -> Path:
    return STATE / kind.lower() / namespace / name


def put(kind: str, namespace: str, name: str, content: Any) -> None:
    path = place(kind, namespace, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(content))


def get(kind: str, namespace: str, name: str) -> Any:
    path = place(kind, namespace, name)
    return orjson.loads(path.read_bytes()) if path.exists() else refuse(f"{namespace}: {kind} {name} not found")


def secret(namespace: str, name: str, files: dict[str, bytes]) -> None:
    if not (STATE / "namespace" / "-" / namespace).exists():
        refuse(f"namespace {namespace} not found")
    put("secret", namespace, name, {key: base64.b64encode(value).decode() for key, value in files.items()})


def apply(overlay: Path) -> None:
    found = list(documents(kustomize(overlay)))
    wrong = [problem for document in found for problem in problems(document, KUBERNETES[-1])]
    if wrong:
        refuse("\n".join(wrong))
    for document in found:
        metadata = document["metadata"]
        put(document["kind"], metadata.get("namespace", "-"), metadata["name"], document)
        if document["kind"] == "KafkaUser":
            _as_strimzi_does(metadata["namespace"], metadata["name"])


def _as_strimzi_does(namespace: str, user: str) -> None:
    put("namespace", "-", namespace, {})
    secret(namespace, user, {"user.crt": b"certificate", "user.key": b"key"})
    secret(namespace, "kafka-cluster-ca-cert", {"ca.crt": b"authority"})


def wanted(document: Document) -> Iterator[tuple[str, str]]:
    """The Secrets, and their keys, that a workload's pod does not start without."""
    pod = document["spec"]["template"]["spec"]
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            yield from ((source["secret"]["name"], item["key"]) for item in source["secret"]["items"])
    for container in pod["containers"]:
        for variable in container.get("env", []):
            asked = variable["valueFrom"]["secretKeyRef"]
            yield asked["name"], asked["key"]


def rollout(namespace: str, what: str) -> None:
    """Whether its pods would start."""
    for name, key in wanted(_workload(namespace, what)):
        if key not in get("secret", namespace, name):
            refuse(f"{namespace}: secret {name} has no {key}")


def _workload(namespace: str, what: str) -> Document:
    kind, _, name = what.partition("/")
    found: Document = get(kind, namespace, name)
    return found if found["kind"] in WORKLOADS else refuse(f"{what} has no pods")


def execute(namespace: str, what: str, container: str, command: Sequence[str]) -> int:
    found = _workload(namespace, what)
    if container not in [one["name"] for one in found["spec"]["template"]["spec"]["containers"]]:
        refuse(f"{what} has no container {container}")
    return subprocess.run(command, check=False).returncode


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kubectl")
    parser.add_argument("-n", dest="namespace", default="default")
    parser.add_argument("-c", dest="container", default="")
    parser.add_argument("-k", dest="overlay", type=Path)
    parser.add_argument("-o", dest="output", default="")
    parser.add_argument("--from-file", action="append", default=[])
    parser.add_argument("--from-literal", action="append", default=[])
    parser.add_argument("verb", nargs="+")
    end = words.index("--") if "--" in words else len(words)
    command = words[end + 1 :]
    given = parser.parse_intermixed_args(words[:end])
    match given.verb:
        case ["create", "namespace", name]:
            put("namespace", "-", name, {})
        case ["create", "secret", "generic", name]:
            files = [one.partition("=") for one in given.from_file]
            content = {key if path else Path(key).name: Path(path or key).read_bytes() for key, _, path in files}
            content |= {key: value.encode() for key, _, value in (one.partition("=") for one in given.from_literal)}
            secret(given.namespace, name, content)
        case ["get", "secret", name]:
            key = re.fullmatch(r'go-template=\{\{index \.data "([\w.]+)" \| base64decode\}\}', given.output)
            content = get("secret", given.namespace, name)
            sys.stdout.write(base64.b64decode(content[key[1]]).decode() if key else refuse(given.output))
        case ["delete", "secret", name]:
            place("secret", given.namespace, name).unlink()
        case ["apply"]:
            apply(given.overlay)
        case ["rollout", "status" | "restart", what]:
            rollout(given.namespace, what)
        case ["exec", what]:
            return execute(given.namespace, what, given.container, command)
        case _:
            refuse(f"not known here: {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
