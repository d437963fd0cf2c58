"""The ceiling: all that Flask does for a request, and nothing else. What was sent comes back, orjson in, orjson out."""

import orjson
from flask import Flask, Response, request

app = Flask(__name__)


@app.post("/reports")
def echo() -> Response:
    return Response(orjson.dumps(orjson.loads(request.get_data())), mimetype="application/json")
