#!/bin/sh
# `make watch`: a Prometheus (Debian's package) beside `make run`, with gridgov's rules and alerts.
set -eu
address=127.0.0.1:${PROMETHEUS_PORT:-9090}
echo "Prometheus: http://$address   rules: http://$address/rules   alerts: http://$address/alerts   (Ctrl-C stops)"
exec prometheus --config.file=deploy/prometheus/prometheus.yml --storage.tsdb.path=var/prometheus \
    --storage.tsdb.retention.time=40d --web.listen-address="$address" --log.level=warn
