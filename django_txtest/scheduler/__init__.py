"""Runs calls in the orders in which their steps can interleave, one step at a time."""

from django_txtest.scheduler.anomalies import Anomaly
from django_txtest.scheduler.api import explore, replay
from django_txtest.scheduler.base import Scheduler
from django_txtest.scheduler.calls import Session
from django_txtest.scheduler.dpor import DporScheduler
from django_txtest.scheduler.exploration import Exploration, Failure
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.scripted import ScriptedSession, sessions
from django_txtest.scheduler.session import checkpoint
from django_txtest.scheduler.strategies import (
    DfsScheduler,
    PctScheduler,
    RandomScheduler,
    ReplayScheduler,
)

__all__ = [
    "Anomaly",
    "DfsScheduler",
    "DporScheduler",
    "Exploration",
    "Failure",
    "PctScheduler",
    "RandomScheduler",
    "ReplayScheduler",
    "Schedule",
    "Scheduler",
    "ScriptedSession",
    "Session",
    "checkpoint",
    "explore",
    "replay",
    "sessions",
]
