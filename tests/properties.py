"""Hypothesis without its limits of time: the machine may be busy with other things."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

at_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
