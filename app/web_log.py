"""gunicorn's own words, through the same pipe as all others."""

from __future__ import annotations

import os
from typing import Any

from gunicorn.glogging import Logger

from runyard.engine.settings import Settings
from runyard.tasks.observe import log_to_stdout


class WebLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Named on gunicorn's command line, because its first words come before the application is loaded."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        log_to_stdout(Settings.from_env(os.environ))
