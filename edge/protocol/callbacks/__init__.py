"""Callbacks v1: what the edge says to a backend and what it may answer. Four parts:

`events` (facts, edge → backend), `actions` (orders, backend → edge), `wire` (both, as msgpack or JSON bytes) and
`signature`. The SDK has its own implementation; tests/contract/vectors holds both to the same bytes.
"""
