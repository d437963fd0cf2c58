"""Reports come in: the HTTP API, who may use it, and the use case that turns a body into a receipt."""
