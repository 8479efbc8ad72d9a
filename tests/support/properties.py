"""Hypothesis with the settings of these tests; to load it takes a process half a second."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

__all__ = ["HealthCheck", "example", "given", "settings", "st"]

# No limit of time: a busy machine may take half a minute for an example.
settings.register_profile("rtden", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rtden")
