"""The OpenAPI 3.1 description of the API, in parts; for a development machine: the service serves what was made."""
