"""How any of our Kafka clients reaches the cluster and enters it."""

from functools import partial
from typing import Any

from kafka.net import KafkaNetClient

from service.config import Config

# A connection that has not come about by now is tried anew: TCP's own next try may be 8 s and more away, and this is
# what a report waits for once the network is whole again. The client waits 10 and 30 s; no option says less (3.0.12).
SETUP_MS, SETUP_MAX_MS = 3_000, 6_000


def connection(config: Config) -> dict[str, Any]:
    """kafka-python's settings for reaching and entering the cluster, for any of its clients."""
    return {
        "bootstrap_servers": list(config.kafka_servers),
        "security_protocol": config.kafka_protocol,
        "ssl_cafile": config.kafka_ca_file and str(config.kafka_ca_file),
        "ssl_certfile": config.kafka_cert_file and str(config.kafka_cert_file),
        "ssl_keyfile": config.kafka_key_file and str(config.kafka_key_file),
        "sasl_mechanism": config.kafka_sasl_mechanism if config.kafka_protocol.startswith("SASL") else None,
        "sasl_plain_username": config.kafka_user,
        "sasl_plain_password": config.kafka_password(),
        "request_timeout_ms": 10_000,
        "reconnect_backoff_max_ms": 1_000,
        "bootstrap_timeout_ms": 5_000,
        "kafka_client": partial(
            KafkaNetClient,
            socket_connection_setup_timeout_ms=SETUP_MS,
            socket_connection_setup_timeout_max_ms=SETUP_MAX_MS,
        ),
    }
