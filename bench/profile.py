"""Where a run's time goes: ``python bench/profile.py`` prints the tables of docs/performance.md.

CPU time of each process for one run (the kernel's account, which other work on the machine hardly changes), the store's
commands for one run (INFO commandstats), and, with py-spy (``pip install py-spy``), which part of the code it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.profiling import main  # noqa: E402 - after the path is right

if __name__ == "__main__":
    sys.exit(main())
