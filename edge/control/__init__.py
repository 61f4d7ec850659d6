"""The operator's API: publish, sessions, channels, releases, drain, health, metrics."""
