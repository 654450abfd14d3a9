"""What seeing costs: ``python bench/seeing.py`` measures ledger, metrics, log and sampled traces against none of them.

Two whole stacks, asked over HTTP turn by turn: throughput, and CPU by the kernel's account, which other work on the
machine hardly changes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.observing import main  # noqa: E402 - after the path is right

if __name__ == "__main__":
    sys.exit(main())
