"""What a schema registry is told, in the words of Confluent's interface, which Karapace and Apicurio speak too.

The values in Kafka are plain JSON, without the registry's five bytes in front: an entry documents a topic and guards
its changes, nobody needs it to read one.
"""

import orjson

from schemas import asyncapi, rejected
from schemas.catalogue import Catalogue
from schemas.fields import Json

# Whoever knows an earlier version reads what a later one writes: new fields may come, none goes.
CONFIG: Json = {"compatibility": "FORWARD_TRANSITIVE"}


REPORTS, REJECTED = "registry.version.json", "registry.rejected.json"  # files that hold a version


def version(published: Json) -> Json:
    """The body of `POST /subjects/{subject}/versions`; in draft-07, which all of them know."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **asyncapi.draft07(published)}
    return {"schemaType": "JSON", "schema": orjson.dumps(schema).decode()}


def subjects(catalogue: Catalogue) -> bytes:
    """The subjects, a line each, by the usual strategy (the topic, and that it is about values), and their versions."""
    files = dict.fromkeys(catalogue.topics, REPORTS) | {rejected.TOPIC: REJECTED}
    return "".join(f"{topic}-value {files[topic]}\n" for topic in sorted(files)).encode()
