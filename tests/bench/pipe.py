"""`python pipe.py PORT KAFKA`, in the virtual environment of mq-bridge.txt: HTTP in, Kafka out, in Rust.

Each line of a body becomes a message, and the answer comes when Kafka has acknowledged them all.
"""

import sys

import mq_bridge  # type: ignore[import-not-found]  # it is not in our environment, but in one of its own

port, kafka = sys.argv[1:]
ROUTE = {
    "input": {"http": {"url": f"127.0.0.1:{port}", "receive_streamable": True, "concurrency_limit": 256}},
    "output": {
        "kafka": {
            "url": kafka,
            "topic": "mq-bridge",
            "create_topic": False,
            "producer_options": [["acks", "all"], ["linger.ms", "1"], ["compression.type", "none"]],
        }
    },
    "concurrency": 4,
}
mq_bridge.Route.from_config(ROUTE).run()
