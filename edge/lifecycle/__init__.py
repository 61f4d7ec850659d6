"""Processes: server, workers, drain, signals."""
