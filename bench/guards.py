"""What guards cost: ``python bench/guards.py`` measures a stack with all of them on against one with none.

Round trips to the store for a POST and for a superstep are counted, and the same on every machine; how much longer a
POST takes is timed, on both stacks in turns.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.guarding import main  # noqa: E402 - after the path is right

if __name__ == "__main__":
    sys.exit(main())
