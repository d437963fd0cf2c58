#!/bin/sh
# `make run`: the whole of gridgov on this machine, with a broker of its own unless KAFKA_BOOTSTRAP_SERVERS names one.
# OWN_KAFKA_PORT says where its own listens, for where 9092 is somebody else's.
# Programs are called as modules of the Python here: those in .venv/bin name their place, which not every path survives.
set -eu
python=.venv/bin/python
: "${GRIDGOV_CREATE_TOPICS:=yes}" "${GRIDGOV_ALLOW_VOLATILE:=yes}" "${GRIDGOV_DATA_DIR:=./var}" "${GRIDGOV_PORT:=8080}"
port=${OWN_KAFKA_PORT:-9092}
export GRIDGOV_CREATE_TOPICS GRIDGOV_ALLOW_VOLATILE GRIDGOV_DATA_DIR GRIDGOV_PORT

words() { # ARGUMENT...: one command line of them, as `--with` takes it apart again
    $python -c 'import os, shlex, sys; sys.stdout.buffer.write(os.fsencode(shlex.join(sys.argv[1:])))' "$@"
}

if [ -n "${KAFKA_BOOTSTRAP_SERVERS:-}" ]; then
    echo "Kafka: yours, at $KAFKA_BOOTSTRAP_SERVERS"
else
    export KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:$port"
    if $python deploy/kafka/broker.py prepare; then
        data=$GRIDGOV_DATA_DIR/kafka
        set -- --with "$(words $python deploy/kafka/broker.py serve --port="$port" --data-dir="$data")"
        echo "Kafka: one broker of our own at $KAFKA_BOOTSTRAP_SERVERS, data in $data"
    else
        echo "Kafka: NONE. The broker's jars could not be had (see above). gridgov runs without it: reports are accepted,"
        echo "       kept in the journal, and wait there until a Kafka answers at $KAFKA_BOOTSTRAP_SERVERS."
    fi
fi
cat <<HINT
API:   http://127.0.0.1:$GRIDGOV_PORT/docs      metrics: http://127.0.0.1:${GRIDGOV_WEB_METRICS_PORT:-9464}/metrics

Try, in a second terminal:
  curl -i http://127.0.0.1:$GRIDGOV_PORT/v1/reports -H 'Content-Type: application/json' -d '{
    "report_id": "demo-1", "case_id": "$(date +%Y%m%d)0001", "kind": "repair", "category": "0211", "stage": "reported",
    "occurred_at": "$(date +%Y-%m-%dT%H:%M:%S%:z)", "location": {"address": "杨树浦路 × 秦皇岛路"}}'
  .venv/bin/gridgov replay deploy/demo/ciie-2020.ndjson
  .venv/bin/gridgov consume --from-beginning

Ctrl-C stops everything; what was accepted stays in $GRIDGOV_DATA_DIR.
HINT
exec $python -m service.cli run "$@"
