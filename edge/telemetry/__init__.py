"""Metrics and logs: names and labels are defined once, here."""
