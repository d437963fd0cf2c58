"""What anybody would write first: Flask, the published schema, and a wait for Kafka's acknowledgement.

An outage of Kafka is an outage of this; a repeat is published twice; nothing is known of a report afterwards.
"""

import os
from typing import Any

import orjson
from flask import Flask, Response, request
from kafka import KafkaProducer
from marshmallow import ValidationError

from schemas.report import SCHEMA

app = Flask(__name__)
producer = KafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], acks="all")


def answer(value: object, status: int) -> Response:
    return Response(orjson.dumps(value), status, mimetype="application/json")


def publish(value: dict[str, Any]) -> Any:
    report = SCHEMA.load(value)
    topic = f"naive.{report['kind']}.{report['category'][:2]}"
    return producer.send(topic, key=report["case_id"].encode(), value=orjson.dumps(report))


@app.post("/reports")
def one() -> Response:
    metadata = publish(orjson.loads(request.get_data())).get(timeout=30)
    return answer({"topic": metadata.topic, "partition": metadata.partition, "offset": metadata.offset}, 202)


@app.post("/reports/batch")
def many() -> Response:
    futures = [publish(value) for value in orjson.loads(request.get_data())]
    return answer([future.get(timeout=30).offset for future in futures], 202)


@app.errorhandler(ValidationError)
def refused(error: ValidationError) -> Response:
    return answer(error.messages, 422)
