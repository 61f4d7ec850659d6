"""For all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Nothing is timed: the machine that runs the tests may have other things to do.
settings.register_profile("holdfast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("holdfast")
