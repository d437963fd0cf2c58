"""Kafka that lets in only whom it knows, over TLS, and permits no more than it must."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.admin._acls import ACLResourcePatternType

from tests.broker import Broker, free_port, run_script
from tests.certificates import Authority
from tests.gridgov import Gridgov, report, running, until

PASSWORD = "a pässword, of 'this' test"
NAMES = {"Write": ACLOperation.WRITE, "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS, "Create": ACLOperation.CREATE}
NAMES["Read"] = ACLOperation.READ
EVERY = ResourcePatternFilter(ResourceType.TOPIC, None, ACLResourcePatternType.ANY)


@dataclass
class Secured:
    """A broker that listens for SCRAM over TLS and for certificates; in plain text only for this test's own admin."""

    home: Path
    scram: int = field(default_factory=free_port)
    mutual: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.broker = Broker(self.home / "kafka", heap="384m", settings=self._settings())
        self.home.joinpath("password").write_text(f"{PASSWORD}\n", encoding="utf-8")
        self.renewed("first")
        self.kept_by_clients()

    def renewed(self, authority: str) -> None:
        """New certificates, of a new authority, for the broker (when it starts next)."""
        made = Authority(self.home / authority, authority)
        made.issue("broker", self.home / "broker.crt", self.home / "broker.key")
        made.issue("mutual", self.home / "next.crt", self.home / "next.key")
        shutil.copy(made.certificate, self.home / "next-ca.pem")
        pem = (self.home / "broker.key").read_text() + (self.home / "broker.crt").read_text()
        (self.home / "broker.pem").write_text(pem)
        shutil.copy(made.certificate, self.home / "broker-ca.pem")

    def kept_by_clients(self) -> None:
        """Let clients have what belongs to the broker's latest certificates."""
        for new, known in (("next-ca.pem", "ca.pem"), ("next.crt", "our.crt"), ("next.key", "our.key")):
            shutil.copy(self.home / new, self.home / known)

    def _settings(self) -> dict[str, str]:
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.home / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.home / "broker-ca.pem"),
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # who comes in plain text: this test
        }

    def start(self) -> None:
        listeners = f"PLAINTEXT://127.0.0.1:{self.broker.port},CONTROLLER://127.0.0.1:{self.broker._controller_port}"
        listeners += f",SASL_SSL://127.0.0.1:{self.scram},SSL://127.0.0.1:{self.mutual}"
        self.broker._settings |= {"listeners": listeners, "advertised.listeners": listeners}
        self.broker.start()

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        with closing(KafkaAdminClient(bootstrap_servers=self.broker.bootstrap)) as made:
            yield made

    def permit(self, acls: list[ACL]) -> None:
        with self.admin() as admin:
            assert not admin.create_acls(acls)["failed"]

    def forbid(self, user: str, operation: ACLOperation, topic: str | None = None) -> None:
        pattern = ResourcePatternFilter(ResourceType.TOPIC, topic, ACLResourcePatternType.ANY)
        with self.admin() as admin:
            taken = admin.delete_acls([ACLFilter(user, "*", operation, ACLPermissionType.ALLOW, pattern)])
        assert taken

    def client(self, name: str, **more: str) -> Gridgov:
        """A gridgov that comes as the SCRAM user `scram` or with the certificate `mutual`."""
        env = {"GRIDGOV_KAFKA_CA_FILE": str(self.home / "ca.pem"), "GRIDGOV_TOPIC_PARTITIONS": "1", **more}
        if name == "scram":
            env = {"GRIDGOV_KAFKA_PROTOCOL": "SASL_SSL", "GRIDGOV_KAFKA_USER": "scram", **env}
            env.setdefault("GRIDGOV_KAFKA_PASSWORD_FILE", str(self.home / "password"))
            return Gridgov(self.home / name, f"127.0.0.1:{self.scram}", env)
        env |= {"GRIDGOV_KAFKA_PROTOCOL": "SSL", "GRIDGOV_KAFKA_CERT_FILE": str(self.home / "our.crt")}
        env["GRIDGOV_KAFKA_KEY_FILE"] = str(self.home / "our.key")
        return Gridgov(self.home / name, f"127.0.0.1:{self.mutual}", env)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Running; the user `scram` exists, and nobody is permitted anything yet."""
    assert run_script("prepare").returncode == 0
    made = Secured(tmp_path_factory.mktemp("secured"))
    try:
        made.start()
        with made.admin() as admin:
            users = [UserScramCredentialUpsertion(name, "SCRAM-SHA-512", PASSWORD) for name in ("scram", "reader")]
            admin.alter_user_scram_credentials(users)
        yield made
    finally:
        made.broker.kill()


def printed(gridgov: Gridgov, *more: str) -> list[ACL]:
    """What `gridgov topics --acls` prints, as the brokers take it."""
    acls = []
    for line in gridgov.run("topics", "--acls", *more, check=True).stdout.splitlines():
        words = shlex.split(line)
        value = dict(zip(words[words.index("--add") + 1 :: 2], words[words.index("--add") + 2 :: 2], strict=True))
        kind, name = (ResourceType.GROUP, "--group") if "--group" in value else (ResourceType.TOPIC, "--topic")
        on = ResourcePattern(kind, value[name])
        operation = NAMES[value["--operation"]]
        acls.append(ACL(value["--allow-principal"], "*", operation, ACLPermissionType.ALLOW, on))
    return acls


def test_scram_with_what_is_printed_and_nothing_less(secured: Secured) -> None:
    gridgov = secured.client("scram", GRIDGOV_CREATE_TOPICS="yes")
    acls = printed(gridgov)
    topic = acls[0].resource_pattern.resource_name
    assert "lacks Write" in gridgov.run("topics").stdout  # control: the authorizer is there
    secured.permit([acl for acl in acls if acl.operation is not ACLOperation.CREATE])
    assert f"{topic}: not made: it lacks Create" in gridgov.run("topics", "--apply").stdout
    secured.permit(acls)
    applied = gridgov.run("topics", "--apply")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    with running(gridgov):
        assert gridgov.post(report("scram"))[0] == 202
        assert gridgov.settled()["parked"] == 0
    secured.forbid("User:scram", ACLOperation.CREATE)
    settled = secured.client("scram", GRIDGOV_CREATE_TOPICS="no")
    assert settled.run("topics").returncode == 0
    secured.forbid("User:scram", ACLOperation.DESCRIBE_CONFIGS, topic)
    assert _complaints(settled) == {topic: "its settings may not be read (DescribeConfigs)"}
    secured.permit(printed(settled))
    secured.forbid("User:scram", ACLOperation.WRITE, topic)
    assert _complaints(settled) == {topic: "paused: unauthorised: it lacks Write (gridgov topics --acls)"}
    secured.permit(printed(settled))


def test_a_reader_with_what_is_printed_for_it_and_nothing_less(secured: Secured, tmp_path: Path) -> None:
    """After the topics were made: `consume` needs to read them, `sink` its group as well."""
    writer = secured.client("scram", GRIDGOV_CREATE_TOPICS="yes")
    secured.permit(printed(writer))
    with running(writer):
        assert writer.post(report("to-read"))[0] == 202
        writer.settled()
    reader = secured.client("scram", GRIDGOV_KAFKA_USER="reader", GRIDGOV_SINK_METRICS_PORT=str(free_port()))
    sink = ("sink", f"sqlite:///{tmp_path / 'reader.db'}", "--once")
    consume = ("consume", "--from-beginning", "--idle", "2")
    assert "r-to-read" not in reader.run(*consume).stdout
    secured.permit(printed(reader, "--for", "consume"))
    assert "r-to-read" in reader.run(*consume, check=True).stdout
    refused = reader.run(*sink)
    assert (refused.returncode, "GroupAuthorizationFailedError" in refused.stderr) == (1, True)
    secured.permit(printed(reader, "--for", "sink"))
    assert "reports worked in" in reader.run(*sink, check=True).stderr


def _complaints(gridgov: Gridgov) -> dict[str, str]:
    """topic → what is told of it, without what it costs."""
    found, topic = {}, ""
    for line in gridgov.run("topics").stdout.splitlines():
        if line.startswith("  - "):
            found[topic] = line.removeprefix("  - ").partition("): ")[0] + (")" if "): " in line else "")
        else:
            topic = line.split()[0]
    return found


def test_control_who_has_another_password_is_not_let_in(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("another\n")
    done = secured.client("scram", GRIDGOV_KAFKA_PASSWORD_FILE=str(tmp_path / "password")).run("topics")
    assert (done.returncode, "no answer from" in done.stderr) == (1, True)


def test_renewed_certificates_are_taken_without_a_restart(secured: Secured) -> None:
    gridgov = secured.client("mutual", GRIDGOV_CREATE_TOPICS="yes")
    secured.permit(printed(gridgov, "--principal", "User:mutual"))
    with running(gridgov):
        assert gridgov.post(report("old"))[0] == 202
        assert gridgov.settled()["parked"] == 0
        relay = gridgov.child("relay")
        secured.renewed("second")
        secured.broker.stop()
        secured.start()
        assert gridgov.post(report("new"))[0] == 202
        refused = gridgov.run("topics").stderr  # control: with the old files nobody gets through
        assert "no answer from" in refused
        assert "CERTIFICATE_VERIFY_FAILED" in refused
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in gridgov.log, "the relay tells why", seconds=60)
        assert gridgov.status()["pending"] == 1
        secured.kept_by_clients()
        assert gridgov.settled()["parked"] == 0
        assert gridgov.child("relay") == relay
