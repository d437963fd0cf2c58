"""The overlays as kustomize renders them."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from tests.kubernetes.schemas import Document, documents
from tests.kubernetes.tools import kustomize

HOME = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("embedded", "replicas")
WORKLOADS = ("StatefulSet", "Deployment")


def rendered(overlay: str) -> list[Document]:
    """Everything that `kubectl apply -k` would send; yours to change."""
    return copy.deepcopy(_rendered(overlay))


@cache
def _rendered(overlay: str) -> list[Document]:
    return list(documents(kustomize(HOME / overlay)))


def of(kind: str, found: list[Document]) -> list[Document]:
    return [one for one in found if one["kind"] == kind]


def workload(found: list[Document]) -> Document:
    """The one that has the pod."""
    [one] = [one for kind in WORKLOADS for one in of(kind, found)]
    return one


def options_of(found: list[Document]) -> dict[str, str]:
    """What the pod's containers have in their environment from the ConfigMap."""
    [one] = of("ConfigMap", found)
    return dict(one["data"])
