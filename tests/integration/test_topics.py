"""What a real cluster says of its topics, and how soon the relay hears of a change."""

from __future__ import annotations

import gc
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from service.broker import topics as module
from service.broker.topics import Cluster, ClusterUnreachable, TopicWatch, weaknesses
from service.config import Config, load
from service.ports import PauseReason, Topic
from tests.broker import Broker, Kafka, free_port

PATIENCE = 30.0
NOBODY = f"test-{uuid.uuid4()}"

left_to_the_collector = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def config_for(bootstrap: str, **env: str) -> Config:
    return load({"KAFKA_BOOTSTRAP_SERVERS": bootstrap, **env})


@pytest.fixture
def cluster(kafka: Kafka) -> Iterator[Cluster]:
    made = Cluster(config_for(kafka.bootstrap))
    yield made
    made.close()


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
    return topic


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
    assert cluster.describe([possible])[possible].partitions == 1


def test_whether_brokers_make_topics_by_themselves(cluster: Cluster, kafka_of_this_session: Broker) -> None:
    own = Cluster(config_for(kafka_of_this_session.bootstrap))

    assert not own.auto_creates()
    own.close()


def test_brokers_that_make_topics_by_themselves_are_found_out(tmp_path: Path) -> None:
    careless = Broker(tmp_path / "kafka", heap="384m", settings={"auto.create.topics.enable": "true"})
    careless.start()
    cluster = Cluster(config_for(careless.bootstrap))
    try:
        assert cluster.auto_creates()
        missing = name()
        assert cluster.describe([missing])[missing].pause is PauseReason.MISSING
        assert cluster.describe([missing])[missing].pause is PauseReason.MISSING  # asking does not make it, even there
    finally:
        cluster.close()
        careless.kill()


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

STRONG = Topic("t", partitions=3, replication=3, in_sync=3, min_in_sync=2)
THREE_WANTED = load({"GRIDGOV_TOPIC_REPLICATION": "3"})


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (STRONG, []),
        (Topic("t"), ["missing"]),
        (replace(STRONG, partitions=1), ["partition"]),
        (replace(STRONG, replication=1, in_sync=1, min_in_sync=1), ["replication 1, 3 wanted"]),
        (replace(STRONG, min_in_sync=1), ["min.insync.replicas"]),
        (replace(STRONG, in_sync=1), ["too_few_replicas"]),
        (replace(STRONG, leaderless=True), ["leaderless"]),
        (replace(STRONG, writable=False), ["unauthorised"]),
        (replace(STRONG, max_message_bytes=1_000), ["max.message.bytes"]),
        (replace(STRONG, partitions=1, max_message_bytes=1_000), ["partition", "max.message.bytes"]),
    ],
)
def test_what_is_weak_about_a_topic(topic: Topic, words: list[str]) -> None:
    found = weaknesses(topic, THREE_WANTED)

    assert len(found) == len(words)
    assert all(word in told for word, told in zip(words, found, strict=True))


def test_a_single_broker_is_strong_enough_where_one_replica_is_wanted(
    cluster: Cluster, admin: KafkaAdminClient
) -> None:
    topic = make(admin, name())

    assert weaknesses(cluster.describe([topic])[topic], load({})) == []


# ---- watching ----


class Watched:
    """A watch that asks often, and patience until it has seen something."""

    def __init__(self, config: Config) -> None:
        self._news = threading.Event()
        self.watch = TopicWatch(Cluster(config), config, self._news.set)

    def sees(self, check: Callable[[TopicWatch], bool]) -> bool:
        while not check(self.watch):
            if not self._news.wait(PATIENCE):
                return False
            self._news.clear()
        return True


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
