"""Documents held against the published schemas: unknown fields are refused too, as a strict API server does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.kubernetes.tools import tools

Document = dict[str, Any]


def problems(document: Document, version: str) -> list[str]:
    """What is wrong with it in a Kubernetes of this version. LookupError: nobody has published a schema of its kind."""
    name = f"{document['kind']}/{document['metadata']['name']}"
    validator = _validator(document["apiVersion"], document["kind"], version)
    return [f"{name}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


@cache
def _validator(api: str, kind: str, version: str) -> Draft202012Validator:
    if (api, kind) in _custom():
        return Draft202012Validator(_custom()[api, kind])
    home = tools() / f"v{version}"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)  # networking.k8s.io/v1: networking-v1
    path = home / f"{kind.lower()}-{group}.json"
    if not path.exists():
        raise LookupError(f"{api} {kind} is not in Kubernetes {version}")
    schema = json.loads(path.read_bytes())
    return Draft202012Validator({**schema, "additionalProperties": False}, registry=_definitions(home))


@cache
def _definitions(home: Path) -> Registry[Any]:
    found: Resource[Any] = Resource.from_contents(json.loads((home / "_definitions.json").read_bytes()))
    registry: Registry[Any] = Registry().with_resource("/api/_definitions.json", found)
    return registry


@cache
def _custom() -> dict[tuple[str, str], Any]:
    """The schemas of the custom resources, by apiVersion and kind."""
    found = {}
    for path in (tools() / "crds").glob("*.yaml"):
        spec = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            api = f"{spec['group']}/{version['name']}"
            found[api, spec["names"]["kind"]] = _closed(version["schema"]["openAPIV3Schema"])
    return found


def _closed(schema: Any) -> Any:
    """The same, without room for fields that it does not name: the API server would drop them in silence."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return {**made, "additionalProperties": False} if named and not open_ else made


def documents(text: str) -> Iterator[Document]:
    """Those of a YAML stream."""
    return (one for one in yaml.load_all(text, yaml.CSafeLoader) if one)
