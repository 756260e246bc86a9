"""An alias of ``python -m tools.bench_costs``, for scripts that use its earlier name."""

from __future__ import annotations

import sys

from tools.bench_costs import main

if __name__ == "__main__":
    sys.exit(main())
