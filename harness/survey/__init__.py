"""What a machine has for this project: `python -m harness.hardware`.

`found` says what is here (machine, GPUs, engines, servers, weights), `ceilings` measures what bounds any
experiment, `offers` says both in the words in which claims ask, "kind:value", and `text` prints them.
Nothing here knows of a claim: `python -m reports decidable` joins offers and claims.
"""

from __future__ import annotations
