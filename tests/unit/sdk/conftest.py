"""Property tests here look for wrong answers, not slow ones: a loaded machine must not turn them red."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("holdfast-sdk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("holdfast-sdk")
