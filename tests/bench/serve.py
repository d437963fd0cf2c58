"""`python -m tests.bench.serve MODULE PORT`: the `app` of a module on granian, by its WSGI interface."""

from __future__ import annotations

import sys

from granian import Granian
from granian.constants import Interfaces

THREADS = 128  # one for each of 64 connections that wait for Kafka, and room
CONNECTIONS = 1024


def main() -> None:
    module, port = sys.argv[1:]
    Granian(
        f"{module}:app",
        address="127.0.0.1",
        port=int(port),
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=THREADS,
        backpressure=CONNECTIONS,
        websockets=False,
        log_enabled=False,
    ).serve()


if __name__ == "__main__":
    main()
