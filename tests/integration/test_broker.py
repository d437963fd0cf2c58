"""The broker that `make run`, the tests and CI share is a real one, keeps its data, and dies when told to."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from tests.broker import ODD_NAME, Broker, Kafka, run_script

ROOT = Path(__file__).parents[2]


def make_topic(bootstrap: str, partitions: int = 1) -> str:
    name = f"test-{uuid.uuid4()}"
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(name, partitions, 1)])
    return name


def publish(bootstrap: str, topic: str, key: bytes, value: bytes) -> None:
    """Return once Kafka has acknowledged the record."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        producer.send(topic, key=key, value=value).get(timeout=30)


def read_with_kafkas_own_consumer(bootstrap: str, topic: str, count: int) -> list[str]:
    """The topic's first records as `key<TAB>value`, as Kafka's console consumer prints them."""
    read = run_script(
        *("console-consumer", "--", "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"),
        *("--max-messages", str(count), "--timeout-ms", "30000", "--formatter-property", "print.key=true"),
    )
    assert read.returncode == 0, read.stderr
    return read.stdout.splitlines()


@pytest.mark.usefixtures("kafka_of_this_session")
def test_preparing_again_keeps_what_is_there() -> None:
    first = run_script("prepare")
    directories = [Path(line) for line in first.stdout.splitlines()]
    before = [directory.stat().st_ino for directory in directories]

    again = run_script("prepare")

    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
    assert [directory.stat().st_ino for directory in directories] == before
    assert [len(list(directory.glob("kafka-clients-*.jar"))) for directory in directories] == [1, 1]
    assert (directories[0] / "kafka-clients-4.4.0.jar").is_file()


def test_an_unreachable_registry_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_JARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAVEN_CENTRAL_URL", "http://127.0.0.1:9/nobody-listens-here")

    failed = run_script("prepare")

    assert failed.returncode == 1
    assert "MAVEN_CENTRAL_URL" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


@pytest.mark.usefixtures("kafka_of_this_session")
def test_a_damaged_jar_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Path(run_script("prepare").stdout.splitlines()[0]).parent
    shutil.copytree(kept, tmp_path / "cache", copy_function=os.link)
    damaged = tmp_path / "cache" / "broker" / "kafka-clients-4.4.0.jar"
    damaged.unlink()  # first, or the damage would reach the real one through the link
    damaged.write_bytes(b"half a jar")
    monkeypatch.setenv("KAFKA_JARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAVEN_CENTRAL_URL", "http://127.0.0.1:9/nobody-listens-here")

    failed = run_script("prepare")

    assert failed.returncode == 1
    assert "fetching Kafka's broker jars" in failed.stderr


def test_an_acknowledged_record_survives_a_kill(breakable_kafka: Broker) -> None:
    topic = make_topic(breakable_kafka.bootstrap)
    publish(breakable_kafka.bootstrap, topic, b"case-1", "井盖丢失".encode())
    killed = breakable_kafka.pid

    breakable_kafka.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(killed, 0)
    breakable_kafka.start()

    assert breakable_kafka.pid != killed
    assert read_with_kafkas_own_consumer(breakable_kafka.bootstrap, topic, 1) == ["case-1\t井盖丢失"]


def test_the_pid_file_names_the_broker_itself(breakable_kafka: Broker) -> None:
    pid = int((breakable_kafka.data_dir / "broker.pid").read_text())

    assert pid == breakable_kafka.pid
    assert b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_a_data_directory_in_use_is_refused(breakable_kafka: Broker) -> None:
    refused = run_script("serve", "--data-dir", str(breakable_kafka.data_dir))

    assert refused.returncode == 1
    assert f"in use by the broker with pid {breakable_kafka.pid}" in refused.stderr


def test_a_port_in_use_is_refused(breakable_kafka: Broker, tmp_path: Path) -> None:
    refused = run_script("serve", "--port", str(breakable_kafka.port), "--data-dir", str(tmp_path))

    assert refused.returncode == 1
    assert f"cannot listen on {breakable_kafka.bootstrap}" in refused.stderr


def test_waiting_for_nobody_fails(breakable_kafka: Broker) -> None:
    breakable_kafka.stop()

    waited = run_script("wait", "--port", str(breakable_kafka.port), "--timeout", "0.2")

    assert waited.returncode == 1
    assert "0 of 1 brokers alive" in waited.stderr


def test_kafkas_own_tool_describes_a_topic(kafka: Kafka) -> None:
    topic = make_topic(kafka.bootstrap, partitions=3)

    described = run_script(*("topics", "--", "--bootstrap-server", kafka.bootstrap, "--describe", "--topic", topic))

    assert "PartitionCount: 3" in described.stdout


def test_a_misspelt_topic_is_refused_not_made(breakable_kafka: Broker) -> None:
    with (
        closing(KafkaProducer(bootstrap_servers=breakable_kafka.bootstrap, max_block_ms=1000)) as producer,
        pytest.raises(KafkaError),
    ):
        producer.send("misspelt", b"value").get(timeout=10)

    with closing(KafkaAdminClient(bootstrap_servers=breakable_kafka.bootstrap)) as admin:
        assert "misspelt" not in admin.list_topics()


def test_settings_given_by_hand_win_and_any_directory_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, odd = Path(run_script("prepare").stdout.splitlines()[0]).parent, ODD_NAME.replace(":", "")
    shutil.copytree(kept, tmp_path / odd / "jars", copy_function=os.link)
    monkeypatch.setenv("KAFKA_JARS_CACHE", str(tmp_path / odd / "jars"))
    monkeypatch.setenv("LC_ALL", "POSIX")  # where Java knows ASCII only
    broker = Broker(tmp_path / ODD_NAME, settings={"num.partitions": "7", "sasl.kerberos.kinit.cmd": ODD_NAME})
    broker.start()
    try:
        asked = run_script(
            *("configs", "--", "--bootstrap-server", broker.bootstrap),
            *("--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"),
        )
    finally:
        broker.kill()

    assert "num.partitions=7 " in asked.stdout
    assert f"sasl.kerberos.kinit.cmd={ODD_NAME} " in asked.stdout
    assert {path.name for path in tmp_path.iterdir()} == {odd, ODD_NAME}


@pytest.mark.parametrize(
    ("data_dir", "jars", "told"),
    [(b"caf\xe9", b"jars", "not in the machine's encoding"), (b"data", b"a:b", "no colon may be in")],
)
def test_a_directory_that_java_would_mistake_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: bytes, jars: bytes, told: str
) -> None:
    monkeypatch.setenv("KAFKA_JARS_CACHE", str(tmp_path / os.fsdecode(jars)))

    refused = run_script("serve", "--data-dir", str(tmp_path / os.fsdecode(data_dir)))

    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert told in refused.stderr
    assert list(tmp_path.iterdir()) == []


START_ONE_AND_SLEEP = """
import pathlib, signal, sys
from tests.broker import Broker
broker = Broker(pathlib.Path(sys.argv[1]), heap="384m")
broker.start()
print(broker.pid, flush=True)
signal.pause()
"""


@pytest.mark.usefixtures("kafka_of_this_session")
def test_a_killed_test_run_leaves_no_broker_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_ONE_AND_SLEEP, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        broker = os.pidfd_open(int(run.stdout.readline()))
        run.kill()

    ended, _, _ = select.select([broker], [], [], 60)
    os.close(broker)
    assert ended
