"""The manifests, rendered by a real kustomize: right by the published schemas, and about this product.

There is no cluster to try them in; tests/system/test_pod.py runs the pods' processes.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import click
import pytest
import yaml

from schemas.catalogue import Catalogue
from service import config as configuration
from service import ops
from service.broker.acls import Need, needed
from service.broker.topics import wanted
from service.broker.weaknesses import weaknesses
from service.cli.main import main
from service.config import Config
from service.ports import Topic
from tests.guide.pages import blocks
from tests.kubernetes.manifests import HOME, OVERLAYS, of, options_of, rendered, workload
from tests.kubernetes.pod import DOCKERFILE
from tests.kubernetes.schemas import Document, documents, problems
from tests.kubernetes.tools import KUBERNETES, kustomize

DEPLOY = HOME.parent
OPTIONS = {configuration.env_name(option): option for option in configuration.options()}
FILES = {name for name, option in OPTIONS.items() if name.endswith("_FILE")}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Document]:
    return rendered(request.param)


def pod(found: list[Document]) -> Any:
    return workload(found)["spec"]["template"]["spec"]


def read(found: list[Document]) -> Config:
    """The options of the pods; what is wrong with them here is that the Secrets' files are not."""
    config, wrong = configuration.read(options_of(found))
    assert {one.partition("=")[0] for one in wrong} <= FILES, wrong
    return config


# ---- by the published schemas ----


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", [*OVERLAYS, "strimzi"])
def test_every_document_is_right_by_its_published_schema(name: str, version: str) -> None:
    found = rendered(name)
    assert [problem for document in found for problem in problems(document, version)] == []
    assert all(document["metadata"].get("namespace") or document["kind"] == "Namespace" for document in found)


def change(kind: str, path: str, value: Any) -> Callable[[list[Document]], None]:
    """Sets what lies at a dotted path of the first document of a kind."""

    def made(found: list[Document]) -> None:
        at: Any = of(kind, found)[0]
        *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in way:
            at = at[step]
        at[last] = value

    return made


CONTAINER = "spec/template/spec/containers/0"
BROKEN = {
    "a misspelt field": change("StatefulSet", f"{CONTAINER}/readinesProbe", {}),
    "a number in words": change("StatefulSet", "spec/replicas", "one"),
    "a probe's path elsewhere": change("StatefulSet", f"{CONTAINER}/livenessProbe/path", "/livez"),
    "a number for an option": change("ConfigMap", "data/GRIDGOV_TOPIC_PARTITIONS", 3),
    "a budget without its selector's form": change("PodDisruptionBudget", "spec/selector", {"app": "gridgov"}),
    "a field at the top": change("Service", "specs", {}),
    "an endpoint's misspelt field": change("ServiceMonitor", "spec/endpoints/0/intervall", "15s"),
    "an interval that is none": change("ServiceMonitor", "spec/endpoints/0/interval", "15"),
    "a rule without an expression": change("PrometheusRule", "spec/groups/0/rules/0", {"alert": "Any"}),
    "an operation that Kafka has not": change("KafkaUser", "spec/authorization/acls/0/operations", ["Publish"]),
    "no partitions": change("KafkaTopic", "spec/partitions", 0),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_manifest_is_found(what: str) -> None:
    right, found = ([*rendered("embedded"), *rendered("strimzi")] for _ in range(2))
    BROKEN[what](found)
    [broken] = [one for one in found if one not in right]
    assert problems(broken, KUBERNETES[-1]) != []


def test_a_kind_that_nobody_has_published_is_no_pass() -> None:
    with pytest.raises(LookupError):
        problems({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}}, "1.37")


# ---- about this product ----


def test_the_containers_run_commands_whose_ports_and_probes_are_theirs(overlay: list[Document]) -> None:
    config = read(overlay)
    ports = {"web": {config.port, config.web_metrics_port}, "relay": {config.relay_metrics_port}}
    health = {"livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert set(health.values()) <= set(ops.ROUTES)
    for container in pod(overlay)["containers"]:
        [command] = container["args"]
        assert command in main.list_commands(click.Context(main))
        named = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert set(named.values()) == ports.pop(container["name"])
        probes = {kind: container[kind]["httpGet"] for kind in health if kind in container}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {kind: health[kind] for kind in probes}
        assert {named[probe["port"]] for probe in probes.values()} == {getattr(config, f"{command}_metrics_port")}
        [start] = [
            container["startupProbe"][how] for how in ("tcpSocket", "httpGet") if how in container["startupProbe"]
        ]
        assert start == ({"port": "http"} if command == "web" else probes["livenessProbe"])
        # a relay that does not start must not take web out of the Service
        assert ("readinessProbe" in probes) == (command == "web")
    assert ports == {}
    assert re.search(r'ENTRYPOINT \["gridgov"\]', DOCKERFILE)


def test_the_services_lead_to_those_ports_and_are_named_as_the_jobs(overlay: list[Document]) -> None:
    config, containers = read(overlay), pod(overlay)["containers"]
    named = {port["name"]: port["containerPort"] for container in containers for port in container["ports"]}
    services = {one["metadata"]["name"]: one["spec"] for one in of("Service", overlay)}
    leads = {
        name: [(port["port"], named[port["targetPort"]]) for port in one["ports"]] for name, one in services.items()
    }
    own = {"gridgov": config.port, "gridgov-web": config.web_metrics_port, "gridgov-relay": config.relay_metrics_port}
    assert leads == {name: [(port, port)] for name, port in own.items()}
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    [monitor] = of("ServiceMonitor", overlay)
    [key] = [one["key"] for one in monitor["spec"]["selector"]["matchExpressions"]]
    watched = [one for one in of("Service", overlay) if key in one["metadata"].get("labels", {})]
    assert sorted(one["metadata"]["name"] for one in watched) == sorted(job["job_name"] for job in jobs)
    assert all(one["spec"]["publishNotReadyAddresses"] for one in watched), "what is ill is looked at too"


def test_every_selector_finds_the_pods(overlay: list[Document]) -> None:
    made = workload(overlay)["spec"]
    labels = made["template"]["metadata"]["labels"].items()
    selectors = [one["spec"]["selector"] for one in of("Service", overlay)]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of("PodDisruptionBudget", overlay)]
    selectors += [one["spec"]["podSelector"].get("matchLabels", {}) for one in of("NetworkPolicy", overlay)]
    selectors += [one["labelSelector"]["matchLabels"] for one in pod(overlay).get("topologySpreadConstraints", [])]
    selectors.append(made["selector"]["matchLabels"])
    assert all(selector.items() <= labels for selector in selectors)
    assert len(selectors) >= 7


def test_the_options_exist_and_no_link_to_a_service_passes_for_one(overlay: list[Document]) -> None:
    given = set(options_of(overlay))
    for container in pod(overlay)["containers"]:
        given |= {one["name"] for one in container.get("env", [])}
        assert [one["configMapRef"]["name"] for one in container["envFrom"]] == [
            one["metadata"]["name"] for one in of("ConfigMap", overlay)
        ]
    assert given <= OPTIONS.keys()
    read(overlay)
    assert pod(overlay)["enableServiceLinks"] is False


def files(found: list[Document]) -> set[PurePosixPath]:
    """The files that the containers get from Secrets."""
    [volume] = [one for one in pod(found)["volumes"] if "projected" in one]
    [places] = [
        {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume["name"]}
        for container in pod(found)["containers"][:1]
    ]
    items = [item for source in volume["projected"]["sources"] for item in source["secret"]["items"]]
    return {PurePosixPath(place, item["path"]) for place in places for item in items}


def test_files_of_secrets_are_where_the_options_say(overlay: list[Document]) -> None:
    given = {PurePosixPath(value) for name, value in options_of(overlay).items() if name in FILES}
    assert given == files(overlay)
    assert len(given) == 4


def test_the_pod_may_write_where_the_product_does_and_nowhere_else(overlay: list[Document]) -> None:
    [data_dir] = re.findall(r"GRIDGOV_DATA_DIR=(\S+)", DOCKERFILE)
    claims = [one["metadata"]["name"] for one in workload(overlay)["spec"].get("volumeClaimTemplates", [])]
    known = {*claims, *(one["name"] for one in pod(overlay)["volumes"])}
    for container in pod(overlay)["containers"]:
        mounts = container["volumeMounts"]
        assert {mount["name"] for mount in mounts} == known
        assert {mount["mountPath"] for mount in mounts if not mount.get("readOnly")} == {data_dir, "/tmp"}
    assert options_of(overlay)["GRIDGOV_DATA_DIR"] == data_dir


def test_the_pod_is_the_images_user_and_may_do_nothing(overlay: list[Document]) -> None:
    """What the namespace asks for: the pod security standard `restricted`, and a read-only root."""
    [namespace] = of("Namespace", overlay)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    [(user, group)] = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert re.search(rf"useradd .*--uid {user} --gid {group} ", DOCKERFILE)
    found = pod(overlay)["securityContext"]
    assert (found["runAsUser"], found["runAsGroup"], found["fsGroup"]) == (int(user), int(group), int(group))
    assert found["runAsNonRoot"] is True
    assert found["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod(overlay)["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
    assert pod(overlay)["automountServiceAccountToken"] is False


def test_the_network_is_closed_but_for_what_is_needed(overlay: list[Document]) -> None:
    config = read(overlay)
    policies = {one["metadata"]["name"]: one["spec"] for one in of("NetworkPolicy", overlay)}
    assert policies.pop("nothing") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    rules = [rule for one in policies.values() for way in ("ingress", "egress") for rule in one.get(way, [])]
    assert all(rule.get("from") or rule.get("to") for rule in rules), "from everywhere is no rule"
    open_ = {way: sorted(_ports(policies.values(), way)) for way in ("ingress", "egress")}
    own = [config.port, config.web_metrics_port, config.relay_metrics_port]
    kafka = [int(server.rpartition(":")[2]) for server in config.kafka_servers]
    server = [5432] if "postgresql" in policies else []
    assert open_ == {"ingress": sorted(own), "egress": sorted([53, 53, *kafka, *server])}
    assert bool(server) == any("env" in container for container in pod(overlay)["containers"])


def _ports(policies: Any, way: str) -> Iterator[int]:
    return (port["port"] for one in policies for rule in one.get(way, []) for port in rule["ports"])


def test_there_is_time_to_end(overlay: list[Document]) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string((DEPLOY / "systemd" / "gridgov-web.service").read_text(encoding="utf-8"))
    before = max(_seconds_before(container) for container in pod(overlay)["containers"])
    assert pod(overlay)["terminationGracePeriodSeconds"] >= before + unit.getint("Service", "TimeoutStopSec")


def _seconds_before(container: Any) -> int:
    return int(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))


def test_one_embedded_gridgov_keeps_its_volume() -> None:
    made = workload(rendered("embedded"))
    assert (made["kind"], made["spec"]["replicas"]) == ("StatefulSet", 1)
    assert made["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    [claim] = made["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    named = {one["metadata"]["name"] for one in of("Service", rendered("embedded"))}
    assert made["spec"]["serviceName"] in named


def test_replicas_have_one_journal_and_nothing_else_in_common() -> None:
    found = rendered("replicas")
    made = workload(found)
    assert (made["kind"], made["spec"]["replicas"]) == ("Deployment", 3)
    for container in pod(found)["containers"]:
        [journal] = container["env"]
        assert journal["name"] == "GRIDGOV_JOURNAL", "both processes keep it in the same place"
        assert journal["valueFrom"] == {"secretKeyRef": {"name": "gridgov-postgresql", "key": "uri"}}
    [data] = [volume for volume in pod(found)["volumes"] if volume["name"] == "data"]
    assert "emptyDir" in data
    [budget] = of("PodDisruptionBudget", found)
    assert budget["spec"]["maxUnavailable"] == 1
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    spread = {one["topologyKey"]: one["whenUnsatisfiable"] for one in pod(found)["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname": "DoNotSchedule", "topology.kubernetes.io/zone": "ScheduleAnyway"}


def test_an_overlay_of_ones_own_is_as_the_guide_says(tmp_path: Path) -> None:
    [text] = [block.text for block in blocks("en", "kubernetes") if block.language == "yaml"]
    [there] = re.findall(r"resources: \[(\S+)\]", text)
    relative = os.path.relpath(HOME / "embedded", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(text.replace(there, relative), encoding="utf-8")
    found = list(documents(kustomize(tmp_path)))
    assert [one["image"] for one in pod(found)["containers"]] == ["registry.example.cn/gridgov:0.1.0"] * 2
    assert read(found).trusted_proxies
    assert options_of(found).items() > options_of(rendered("embedded")).items()
    assert there.endswith("/".join(HOME.parts[-2:]) + "/embedded")


# ---- what is generated ----


def test_the_topics_are_the_catalogues_and_strong() -> None:
    config, found = read(rendered("embedded")), of("KafkaTopic", rendered("strimzi"))
    assert sorted(one["metadata"]["name"] for one in found) == sorted(wanted(Catalogue.load(None).topics, config))
    for one in found:
        spec = one["spec"]
        settings = {name: str(value) for name, value in spec["config"].items()}
        in_sync = int(settings["min.insync.replicas"])
        topic = Topic(
            one["metadata"]["name"],
            partitions=spec["partitions"],
            replication=spec["replicas"],
            min_in_sync=in_sync,
            settings=settings,
        )
        assert weaknesses(topic, config) == []
        assert in_sync < spec["replicas"], "a broker may be away"
    assert config.create_topics is False


def test_the_user_may_do_the_least() -> None:
    config, found = read(rendered("embedded")), rendered("strimzi")
    [user] = of("KafkaUser", found)
    acls = user["spec"]["authorization"]["acls"]
    permitted = [Need(operation, acl["resource"]["name"]) for acl in acls for operation in acl["operations"]]
    assert sorted(permitted) == sorted(needed([one["metadata"]["name"] for one in of("KafkaTopic", found)], config))
    assert all(acl["resource"]["type"] == "topic" and "patternType" not in acl["resource"] for acl in acls)
    [volume] = [one for one in pod(rendered("embedded"))["volumes"] if "projected" in one]
    assert user["metadata"]["name"] in [source["secret"]["name"] for source in volume["projected"]["sources"]]


def test_the_rules_are_those_of_prometheus() -> None:
    files_ = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
    groups = [group for path in files_ for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    found = of("PrometheusRule", rendered("embedded"))
    assert [group for one in found for group in one["spec"]["groups"]] == groups
    assert len({group["name"] for group in groups}) == len(groups)
