"""`python pipe.py PORT KAFKA`, in the virtual environment of mq-bridge.txt: HTTP in, Kafka out, in Rust.

An answer comes when Kafka has acknowledged. `/one`: a body is a record. `/lines`: each line of a body is one. The
settings are the fastest of those tried that still wait: no linger (its default of 5 ms is what most requests would wait
for), more workers where each has one record. Uncompressed, as everybody else here.
"""

import sys

import mq_bridge  # type: ignore[import-not-found]  # it is not in our environment, but in one of its own

port, kafka = sys.argv[1:]
KAFKA = {
    "url": kafka,
    "topic": "mq-bridge",
    "create_topic": False,
    "producer_options": [["acks", "all"], ["linger.ms", "0"], ["compression.type", "none"]],
}


def route(path: str, workers: int, **more: object) -> mq_bridge.Route:
    listen = {"url": f"127.0.0.1:{port}", "path": path, "concurrency_limit": 256, "internal_buffer_size": 1000, **more}
    return mq_bridge.Route.from_config({"input": {"http": listen}, "output": {"kafka": KAFKA}, "concurrency": workers})


route("/one", 16).start()
route("/lines", 4, receive_streamable=True).run()
