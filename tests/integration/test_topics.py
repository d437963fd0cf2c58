"""What a real cluster says of its topics, and how soon the relay hears of a change."""

from __future__ import annotations

import gc
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from service.broker import topics as module
from service.broker.topics import Cluster, ClusterUnreachable, TopicWatch
from service.broker.weaknesses import complaints, made_with, weaknesses
from service.config import Config, load
from service.ports import PauseReason, Topic
from tests.broker import Broker, Kafka, free_port, serving
from tests.gridgov import until

PATIENCE = 120.0
NOBODY = f"test-{uuid.uuid4()}"

left_to_the_collector = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def config_for(bootstrap: str, **env: str) -> Config:
    return load({"KAFKA_BOOTSTRAP_SERVERS": bootstrap, **env})


@pytest.fixture
def cluster(kafka: Kafka) -> Iterator[Cluster]:
    made = Cluster(config_for(kafka.bootstrap))
    yield made
    made.close()


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of its own, whose defaults lose messages."""
    defaults = {"auto.create.topics.enable": "true", "log.cleanup.policy": "compact", "log.retention.ms": "3600000"}
    with serving(Broker(tmp_path_factory.mktemp("careless"), heap="384m", settings=defaults)) as made:
        yield made


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as made:
        yield made


@pytest.fixture
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """kafka-python 3.0.12 leaves the sockets of failed connections to the garbage collector: let it find them here."""
    caplog.set_level(logging.CRITICAL, logger="kafka")  # as in service; pytest would keep the records with their frames
    yield
    gc.collect()


def name() -> str:
    return f"test-{uuid.uuid4()}"


def make(admin: KafkaAdminClient, topic: str, partitions: int = 3, **settings: str) -> str:
    dotted = {key.replace("_", "."): value for key, value in settings.items()}
    admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dotted)])
    admin.wait_for_topics([topic])
    return topic


def set_config(admin: KafkaAdminClient, topic: str, setting: str, value: str) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {setting: value})])


# ---- asking the cluster ----


def test_a_topic_is_described_as_it_is(cluster: Cluster, admin: KafkaAdminClient) -> None:
    topic = make(admin, name(), 5, max_message_bytes="300000", min_insync_replicas="1")

    found = cluster.describe([topic])

    assert found == {topic: Topic(topic, 5, 1, 1, False, True, 1, 300_000)}
    assert found[topic].pause is None


def test_the_brokers_own_limit_holds_where_a_topic_has_none(cluster: Cluster, admin: KafkaAdminClient) -> None:
    topic = make(admin, name())

    assert cluster.describe([topic])[topic].max_message_bytes == 1_048_588


def test_a_missing_topic_is_described_as_missing_beside_the_others(cluster: Cluster, admin: KafkaAdminClient) -> None:
    there, missing = make(admin, name()), name()

    found = cluster.describe([missing, there])

    assert list(found) == [missing, there]
    assert found[missing] == Topic(missing)
    assert (found[missing].pause, found[there].pause) == (PauseReason.MISSING, None)


def test_asking_about_a_missing_topic_does_not_make_it(cluster: Cluster, admin: KafkaAdminClient) -> None:
    missing = name()

    cluster.describe([missing])

    assert missing not in admin.list_topics()


def test_more_replicas_wanted_than_there_are_pauses_a_topic(cluster: Cluster, admin: KafkaAdminClient) -> None:
    topic = make(admin, name(), min_insync_replicas="2")

    assert cluster.describe([topic])[topic].pause is PauseReason.TOO_FEW_REPLICAS


def test_creating_makes_what_is_missing_and_leaves_the_rest(cluster: Cluster, admin: KafkaAdminClient) -> None:
    there, missing = make(admin, name(), 1), name()

    assert cluster.create([there, missing], partitions=4, replication=1) == {}

    found = cluster.describe([there, missing])
    assert (found[there].partitions, found[missing].partitions) == (1, 4)


def test_what_cannot_be_created_is_told_and_stops_nothing(cluster: Cluster) -> None:
    impossible, possible = "no topic!", name()

    errors = cluster.create([impossible, possible], partitions=1, replication=1)
    too_many = cluster.create([other := name()], partitions=1, replication=7)

    assert list(errors) == [impossible]
    assert "InvalidTopic" in errors[impossible]
    assert "InvalidReplicationFactor" in too_many[other]
    until(lambda: cluster.describe([possible])[possible].partitions == 1, "every broker knows of it")


def test_whether_brokers_make_topics_by_themselves(cluster: Cluster, kafka_of_this_session: Broker) -> None:
    own = Cluster(config_for(kafka_of_this_session.bootstrap))

    assert not own.auto_creates()
    own.close()


def test_brokers_that_make_topics_by_themselves_are_found_out(careless: Broker) -> None:
    with closing(Cluster(config_for(careless.bootstrap))) as cluster:
        assert cluster.auto_creates()
        missing = name()
        assert cluster.describe([missing])[missing].pause is PauseReason.MISSING
        assert cluster.describe([missing])[missing].pause is PauseReason.MISSING  # asking does not make it, even there


@left_to_the_collector
@pytest.mark.usefixtures("collected")
def test_nobody_listening_is_told_and_asked_again_later() -> None:
    cluster = Cluster(config_for(f"127.0.0.1:{free_port()}"))

    for _ in range(2):
        with pytest.raises(ClusterUnreachable):
            cluster.describe([NOBODY])
    cluster.close()


@left_to_the_collector
@pytest.mark.usefixtures("collected")
def test_after_an_outage_the_same_cluster_answers_again(breakable_kafka: Broker) -> None:
    cluster = Cluster(config_for(breakable_kafka.bootstrap))
    topic = name()
    cluster.create([topic], partitions=2, replication=1)
    breakable_kafka.kill()
    with pytest.raises(ClusterUnreachable):
        cluster.describe([topic])

    breakable_kafka.start()

    assert cluster.describe([topic])[topic].partitions == 2
    cluster.close()


# ---- what should be mended ----

HOUR = 3_600_000
SAFE = {
    "cleanup.policy": "delete",
    "retention.ms": str(168 * HOUR),
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
}
STRONG = Topic("t", partitions=3, replication=3, in_sync=3, min_in_sync=2, settings=SAFE)
THREE_WANTED = load({"GRIDGOV_TOPIC_REPLICATION": "3"})


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (STRONG, []),
        (Topic("t"), ["missing"]),
        (replace(STRONG, partitions=1), ["partition"]),
        (replace(STRONG, partitions=6), ["6 partition"]),
        (replace(STRONG, replication=1, in_sync=1, min_in_sync=1), ["replication 1, 3 wanted"]),
        (replace(STRONG, min_in_sync=1), ["min.insync.replicas"]),
        (replace(STRONG, in_sync=1), ["too_few_replicas"]),
        (replace(STRONG, leaderless=True), ["leaderless"]),
        (replace(STRONG, writable=False), ["unauthorised"]),
        (replace(STRONG, max_message_bytes=1_000), ["max.message.bytes"]),
        (replace(STRONG, partitions=1, max_message_bytes=1_000), ["partition", "max.message.bytes"]),
        (replace(STRONG, settings={}), ["DescribeConfigs"]),
    ],
)
def test_what_is_to_be_mended_about_a_topic(topic: Topic, words: list[str]) -> None:
    found = complaints(topic, THREE_WANTED)

    assert len(found) == len(words)
    assert all(word in told for word, told in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("setting", "value", "weak"),
    [
        ("cleanup.policy", "compact", True),
        ("cleanup.policy", "compact,delete", True),
        ("retention.ms", str(168 * HOUR - 1), True),
        ("retention.ms", "0", True),
        ("retention.ms", "-1", False),
        ("retention.ms", str(9_000 * HOUR), False),
        ("retention.bytes", "0", True),
        ("retention.bytes", "1073741824", True),
        ("unclean.leader.election.enable", "true", True),
        ("compression.type", "zstd", False),
        ("message.timestamp.type", "LogAppendTime", False),
    ],
)
def test_a_setting_that_loses_messages_is_named_with_its_value(setting: str, value: str, weak: bool) -> None:
    found = weaknesses(replace(STRONG, settings=SAFE | {setting: value}), THREE_WANTED)

    assert len(found) == weak
    assert all(f"{setting} {value}" in told for told in found)


def test_how_long_messages_are_to_be_kept_is_configured() -> None:
    day = replace(STRONG, settings=SAFE | {"retention.ms": str(24 * HOUR)})

    assert weaknesses(day, load({"GRIDGOV_TOPIC_REPLICATION": "3", "GRIDGOV_TOPIC_RETENTION_HOURS": "24"})) == []
    assert len(weaknesses(day, load({"GRIDGOV_TOPIC_REPLICATION": "3", "GRIDGOV_TOPIC_RETENTION_HOURS": "25"}))) == 1


def test_a_single_broker_is_strong_enough_where_one_replica_is_wanted(
    cluster: Cluster, admin: KafkaAdminClient
) -> None:
    topic = make(admin, name())

    assert complaints(cluster.describe([topic])[topic], load({})) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cleanup.policy", "compact"),
        ("retention.ms", "3600000"),
        ("retention.bytes", "1000000"),
        ("unclean.leader.election.enable", "true"),
        ("max.message.bytes", "1000"),
    ],
)
def test_a_real_topic_tells_its_weakness(cluster: Cluster, admin: KafkaAdminClient, setting: str, value: str) -> None:
    topic = make(admin, name(), 3, **{setting: value})

    [told] = weaknesses(cluster.describe([topic])[topic], load({}))

    assert told.startswith(f"{setting} {value}")


def test_what_we_create_is_as_configured_whatever_the_cluster_does_by_default(careless: Broker) -> None:
    config = config_for(careless.bootstrap, GRIDGOV_TOPIC_RETENTION_HOURS="240")
    ours, theirs = name(), name()
    with closing(Cluster(config)) as cluster:
        assert cluster.create([ours], partitions=3, replication=1, settings=made_with(config)) == {}
        assert cluster.create([theirs], partitions=3, replication=1) == {}
        until(lambda: all(one.partitions for one in cluster.describe([ours, theirs]).values()), "both are there")
        found = cluster.describe([ours, theirs])

    assert weaknesses(found[ours], config) == []
    assert found[ours].settings["retention.ms"] == str(240 * HOUR)
    assert [told.partition(" ")[0] for told in weaknesses(found[theirs], config)] == ["cleanup.policy", "retention.ms"]


# ---- watching ----


class Watched:
    """A watch that asks often, and patience until it has seen something."""

    def __init__(self, config: Config) -> None:
        self._news = threading.Event()
        self.weak: dict[str, int] = {}
        self.watch = TopicWatch(Cluster(config), config, self._news.set, self._count)

    def sees(self, check: Callable[[TopicWatch], bool]) -> bool:
        while not check(self.watch):
            if not self._news.wait(PATIENCE):
                return False
            self._news.clear()
        return True

    def _count(self, topic: str, weak: int) -> None:
        self.weak[topic] = weak
        self._news.set()


@pytest.fixture
def ask_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.05)


@pytest.fixture
def watched(kafka: Kafka, ask_often: None) -> Iterator[Watched]:
    made = Watched(config_for(kafka.bootstrap))
    yield made
    made.watch.stop()


def test_a_watch_notices_what_comes_and_goes(watched: Watched, admin: KafkaAdminClient) -> None:
    topic = name()
    assert watched.watch.pause(topic) is PauseReason.UNKNOWN
    watched.watch.start([topic])
    assert watched.sees(lambda watch: watch.pause(topic) is PauseReason.MISSING)
    assert watched.watch.reachable

    make(admin, topic)
    assert watched.sees(lambda watch: watch.pause(topic) is None)
    assert watched.watch.topics[topic].partitions == 3

    admin.delete_topics([topic])
    assert watched.sees(lambda watch: watch.pause(topic) is PauseReason.MISSING)


def test_a_watch_creates_what_is_missing_when_it_may(kafka: Kafka, ask_often: None, admin: KafkaAdminClient) -> None:
    topics = [name(), name()]
    watched = Watched(config_for(kafka.bootstrap, GRIDGOV_CREATE_TOPICS="yes", GRIDGOV_TOPIC_PARTITIONS="2"))

    watched.watch.start(topics)

    assert watched.sees(lambda watch: [watch.pause(topic) for topic in topics] == [None, None])
    assert {watched.watch.topics[topic].partitions for topic in topics} == {2}
    assert set(topics) <= set(admin.list_topics())
    watched.watch.stop()


def test_a_watch_tells_what_loses_messages_when_it_is_new(
    watched: Watched, admin: KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    topic = make(admin, name(), retention_ms="1000")
    sound = make(admin, name())
    watched.watch.start([topic, sound])
    assert watched.sees(lambda _: watched.weak.get(topic) == 1)

    set_config(admin, topic, "cleanup.policy", "compact,delete")
    assert watched.sees(lambda _: watched.weak[topic] == 2)
    for setting, value in (("cleanup.policy", "delete"), ("retention.ms", "-1")):
        set_config(admin, topic, setting, value)
    assert watched.sees(lambda _: watched.weak[topic] == 0)
    admin.create_partitions({topic: 4})
    assert watched.sees(lambda _: watched.weak[topic] == 1)

    told = [(one.msg, one.__dict__["topic"]) for one in caplog.records if one.name == "service.broker.topics"]
    assert [word for word, _ in told if word != "topic mended"][:2] == ["topic weak", "topic weak"]
    assert told[-2:] == [("topic weak", topic), ("partitions added", topic)]
    assert {about for _, about in told} == {topic}
    assert sound not in watched.weak


def test_a_watch_tells_of_a_topic_made_anew(
    watched: Watched, admin: KafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    topic = make(admin, name())
    watched.watch.start([topic])
    assert watched.sees(lambda watch: watch.pause(topic) is None)

    admin.delete_topics([topic])
    assert watched.sees(lambda watch: watch.pause(topic) is PauseReason.MISSING)
    make(admin, topic)
    assert watched.sees(lambda watch: watch.pause(topic) is None)

    assert [one.__dict__["topic"] for one in caplog.records if one.msg == "topic made anew"] == [topic]


@left_to_the_collector
@pytest.mark.usefixtures("collected")
def test_a_watch_sees_the_cluster_go_and_come_back(ask_often: None, breakable_kafka: Broker) -> None:
    watched = Watched(config_for(breakable_kafka.bootstrap, GRIDGOV_CREATE_TOPICS="yes"))
    topic = name()
    watched.watch.start([topic])
    assert watched.sees(lambda watch: watch.pause(topic) is None)

    breakable_kafka.kill()
    assert watched.sees(lambda watch: not watch.reachable)
    assert watched.watch.topics[topic].partitions == 3  # what was known stays

    breakable_kafka.start()
    assert watched.sees(lambda watch: watch.reachable)
    watched.watch.stop()


def test_a_stopped_watch_leaves_no_thread_behind(watched: Watched) -> None:
    watched.watch.start([NOBODY])
    assert watched.sees(lambda watch: watch.reachable)

    watched.watch.stop()

    assert "topic-watch" not in {thread.name for thread in threading.enumerate()}
