"""The Celery application: ``celery -A runyard.tasks.celery worker``."""

from __future__ import annotations

import os

from celery import Celery

from runyard.engine.settings import Settings
from runyard.tasks.settings import celery_settings

app = Celery("runyard", include=["runyard.tasks.runs", "runyard.tasks.lifecycle"])
app.config_from_object(celery_settings(Settings.from_env(os.environ)))
