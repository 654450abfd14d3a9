"""``python bench/plot.py``: make the plots and tables of docs/performance.md anew from ``bench/results/growth.json``.

Needs matplotlib: ``pip install -c constraints.txt -e '.[bench]'``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench.pages import fill  # noqa: E402 - after the path is right
from bench.plots import make_all  # noqa: E402 - the same


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/plot.py", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "growth.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where performance.md and plots/ are")
    options = parser.parse_args()
    document = json.loads(options.results.read_text(encoding="utf-8"))
    for path in make_all(document, options.docs / "plots"):
        print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
    page = options.docs / "performance.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), document), encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
