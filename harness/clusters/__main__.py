"""`python -m harness.clusters`: the suite as a job of a Ray cluster."""

from __future__ import annotations

import sys

from harness.clusters.job import main

if __name__ == "__main__":
    sys.exit(main())
