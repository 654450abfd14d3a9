"""``make bench``: Runyard beside plain LangGraph and plain Celery, on this machine, in one run.

Prints a table and writes ``bench/results/latest.json``. ``--quick`` takes seconds for each measurement instead of tens,
``--only`` measures one contender or one measure.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The root instead of this folder: what lies here is imported as bench.*, and bench/profile.py is not the library's.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.session import main  # noqa: E402 - after the path is right

if __name__ == "__main__":
    sys.exit(main())
