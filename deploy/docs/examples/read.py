"""Reads one topic from its beginning, drops repeats, ends after three seconds without a message. Needs kafka-python."""

import json

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

TOPIC = "gridgov.repair.road-traffic"
consumer = KafkaConsumer(bootstrap_servers="127.0.0.1:9092", enable_auto_commit=False, consumer_timeout_ms=3000)
places = [TopicPartition(TOPIC, partition) for partition in consumer.partitions_for_topic(TOPIC)]
consumer.assign(places)
consumer.seek_to_beginning(*places)
highest: dict[tuple[str, str, int], int] = {}  # kept in your database, in the transaction that stores the report

for record in consumer:
    headers = {name: value.decode() for name, value in record.headers}
    if "journal-seq" not in headers:
        continue  # not gridgov's
    place, seq = (headers["journal-id"], record.topic, record.partition), int(headers["journal-seq"])
    if seq <= highest.get(place, 0):
        continue  # a repeat
    highest[place] = seq
    report = json.loads(record.value)
    print(report["occurred_at"], report["case_id"], report["stage"], report["category_name"])
consumer.close()
