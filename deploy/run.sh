#!/bin/sh
# `make run`: the whole of gridgov on this machine, with a broker of its own unless KAFKA_BOOTSTRAP_SERVERS names one.
set -eu
bin=.venv/bin
: "${GRIDGOV_CREATE_TOPICS:=yes}" "${GRIDGOV_ALLOW_VOLATILE:=yes}" "${GRIDGOV_DATA_DIR:=./var}" "${GRIDGOV_PORT:=8080}"
export GRIDGOV_CREATE_TOPICS GRIDGOV_ALLOW_VOLATILE GRIDGOV_DATA_DIR GRIDGOV_PORT

if [ -n "${KAFKA_BOOTSTRAP_SERVERS:-}" ]; then
    echo "Kafka: yours, at $KAFKA_BOOTSTRAP_SERVERS"
elif $bin/python deploy/kafka/broker.py prepare; then
    set -- --with "$bin/python deploy/kafka/broker.py serve --port 9092 --data-dir $GRIDGOV_DATA_DIR/kafka"
    echo "Kafka: one broker of our own at 127.0.0.1:9092, data in $GRIDGOV_DATA_DIR/kafka"
else
    echo "Kafka: NONE. The broker's jars could not be had (see above). gridgov runs without it: reports are accepted,"
    echo "       kept in the journal, and wait there until a Kafka answers at 127.0.0.1:9092."
fi
cat <<HINT
API:   http://127.0.0.1:$GRIDGOV_PORT/docs      metrics: http://127.0.0.1:${GRIDGOV_WEB_METRICS_PORT:-9464}/metrics

Try, in a second terminal:
  curl -i http://127.0.0.1:$GRIDGOV_PORT/v1/reports -H 'Content-Type: application/json' -d '{
    "report_id": "demo-1", "case_id": "$(date +%Y%m%d)0001", "kind": "repair", "category": "0211", "stage": "reported",
    "occurred_at": "$(date +%Y-%m-%dT%H:%M:%S%:z)", "location": {"address": "杨树浦路 × 秦皇岛路"}}'
  $bin/gridgov replay deploy/demo/ciie-2020.ndjson
  $bin/gridgov consume --from-beginning

Ctrl-C stops everything; what was accepted stays in $GRIDGOV_DATA_DIR.
HINT
exec $bin/gridgov run "$@"
