"""kustomize and the schemas of Kubernetes, Strimzi and the Prometheus Operator, had once and kept: `python -m
tests.kubernetes.tools` has them ready.

kustomize is built from its Go module (go.sum) with the Go of a wheel, Kubernetes' schemas are from a wheel
(requirements.txt, with hashes), Strimzi's are printed by its own generator, the operator's lie in its Go module.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from deploy.kafka.broker import JarSet, cache, java, prepare_set

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
KUBERNETES = ("1.31", "1.37")  # the oldest and the newest that the manifests are held against
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
OPERATOR_SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
OPERATOR_KINDS = ("servicemonitors", "prometheusrules")
STRIMZI = JarSet(
    name="strimzi",
    coordinates=(),
    alone=("io.strimzi:crd-generator:1.2.0", "io.strimzi:api:1.2.0"),
    sha256="e2360e6a3d9e168a996fae8650036fd97fd7222b2a1c59b9bee4040d23213d8d",
)
STRIMZI_KINDS = {
    "topic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "user": "io.strimzi.api.kafka.model.user.KafkaUser",
}


def tools() -> Path:
    """A directory with `kustomize`, `v1.NN` (Kubernetes' JSON Schemas) and `crds`. Safe to ask for at once."""
    parent = cache().parent
    locked = [(HERE / "requirements.txt").read_text(), (HERE / "go.sum").read_text(), KUBERNETES, OPERATOR_SUM, STRIMZI]
    home = parent / f"kubernetes-{hashlib.sha256(repr(locked).encode()).hexdigest()[:16]}"
    if home.exists():
        return home
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / "kubernetes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            log.warning("building kustomize, fetching schemas into %s (once; a minute or two)", home)
            with tempfile.TemporaryDirectory(dir=parent, prefix="kubernetes-") as scratch:
                _make(Path(scratch)).rename(home)
    return home


def kustomize(overlay: Path) -> str:
    """What `kustomize build` makes of it. Raises RuntimeError."""
    return _run(tools() / "kustomize", "build", overlay.resolve())


def _make(scratch: Path) -> Path:
    ready, wheels = scratch / "ready", scratch / "wheels"
    (ready / "crds").mkdir(parents=True)
    uv = Path(sys.executable).parent / "uv"
    _run(
        uv, "pip", "install", "-q", "--target", wheels, "--require-hashes", "--no-deps", "-r", HERE / "requirements.txt"
    )
    for version in KUBERNETES:
        schemas = wheels / "kubernetes_validate" / "kubernetes-json-schema" / f"v{version}.0-local-strict"
        shutil.copytree(schemas, ready / f"v{version}")
    _go(wheels, "build", "-o", ready / "kustomize", "sigs.k8s.io/kustomize/kustomize/v5")
    operator: dict[str, Any] = json.loads(_go(wheels, "mod", "download", "-json", OPERATOR))
    assert operator["Sum"] == OPERATOR_SUM, operator
    for kind in OPERATOR_KINDS:
        crd = Path(operator["Dir"], "example", "prometheus-operator-crd", f"monitoring.coreos.com_{kind}.yaml")
        shutil.copyfile(crd, ready / "crds" / crd.name)
    _strimzi(ready / "crds")
    return ready


def _go(wheels: Path, *arguments: str | Path) -> str:
    settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    settings["GOSUMDB"] = "off"  # what it would vouch for stands in go.sum, and above
    return _run(wheels / "go" / "bin" / "go", *arguments, **settings)


def _strimzi(target: Path) -> None:
    path = ":".join(str(jar) for jar in prepare_set(STRIMZI).glob("*.jar"))
    pairs = [f"{kind}={target}/kafka-{name}.yaml" for name, kind in STRIMZI_KINDS.items()]
    _run(java(), "-cp", path, "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *pairs)


def _run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(command, cwd=HERE, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    tools()
