"""`/openapi.json` and `/docs`: the published contract, with everything the page needs on board."""

from importlib.resources import files

from flask import Blueprint, Response

ROUTES = ("/openapi.json", "/docs")


def blueprint() -> Blueprint:
    """The routes of the documentation; open to anybody who reaches the API."""
    docs = Blueprint("docs", __name__)
    openapi = files("schemas.generated").joinpath("openapi.json").read_bytes()

    @docs.get("/openapi.json")
    def document() -> Response:
        return Response(openapi, content_type="application/json")

    return docs
