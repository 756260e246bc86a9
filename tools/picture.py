"""An alias of ``python -m tools.readme_picture``, for scripts that use its earlier name."""

from __future__ import annotations

import sys

from tools.readme_picture import main

if __name__ == "__main__":
    sys.exit(main())
