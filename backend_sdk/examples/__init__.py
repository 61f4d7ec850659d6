"""Backends to read, run and start from."""
