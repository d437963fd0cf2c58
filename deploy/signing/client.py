"""Post a signed report: GRIDGOV_KEY=gg_<id>_<secret> python client.py http://127.0.0.1:8080/v1/reports report.json"""

import hashlib
import hmac
import os
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

url, body = urllib.parse.urlsplit(sys.argv[1]), Path(sys.argv[2]).read_bytes()
name, secret = os.environ["GRIDGOV_KEY"][:11], os.environ["GRIDGOV_KEY"][12:]
algorithm = os.environ.get("GRIDGOV_DIGEST", "sha256")  # or sm3, as the key was made
digest, stamp = hashlib.new(algorithm, body).hexdigest(), str(int(time.time()))
query = "&".join(sorted(filter(None, url.query.split("&"))))
text = "\n".join(("POST", url.path, query, digest, stamp))
signature = hmac.new(secret.encode(), text.encode(), algorithm).hexdigest()
signed = {"X-App-Key": name, "X-Timestamp": stamp, "X-Content-Digest": digest, "X-Signature": signature}
headers = signed | {"Content-Type": "application/json"}
with urllib.request.urlopen(urllib.request.Request(url.geturl(), body, headers)) as answer:
    print(answer.status, answer.read().decode())
