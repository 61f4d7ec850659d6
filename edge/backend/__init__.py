"""The edge → backend path: pools, natural batching, retries, HTTP/1.1."""
