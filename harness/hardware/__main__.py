"""`python -m harness.hardware`: what this machine has, and what bounds what runs on it.

python -m harness.hardware                  about ten seconds, which it computes
python -m harness.hardware --no-measure     a second
python -m harness.hardware --json           for programs
"""

from __future__ import annotations

import sys

from harness.survey.main import main

if __name__ == "__main__":
    sys.exit(main())
