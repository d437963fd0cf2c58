#!/bin/sh
# Post a signed report: GRIDGOV_KEY=gg_<id>_<secret> sh client.sh http://127.0.0.1:8080/v1/reports report.json
# The secret is an argument of openssl, which others on this machine can see while it runs: not for a shared one.
set -eu
url=$1 file=$2 digest=${GRIDGOV_DIGEST:-sha256} # or sm3, as the key was made
secret=${GRIDGOV_KEY#gg_????????_}
name=${GRIDGOV_KEY%"_$secret"}
path=/${url#*://*/} stamp=$(date +%s)
hex() { openssl dgst "-$digest" -r "$@" | cut -d' ' -f1; }
body=$(hex <"$file")
signature=$(printf 'POST\n%s\n\n%s\n%s' "$path" "$body" "$stamp" | hex -hmac "$secret")
curl -sS -w '%{http_code}\n' --data-binary "@$file" \
    -H 'Content-Type: application/json' -H "X-App-Key: $name" -H "X-Timestamp: $stamp" \
    -H "X-Content-Digest: $body" -H "X-Signature: $signature" "$url"
