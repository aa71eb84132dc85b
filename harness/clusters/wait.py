"""Waits until a Ray cluster has as many nodes as were started.

python -m harness.clusters.wait HOST:PORT NODES SECONDS     as bench/cloud/slurm.sh does
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from harness.agents.cluster import RayCluster, require_ray
from harness.agents.head import CLI
from harness.errors import HarnessError, LaunchError

__all__ = ["main", "wait_for_nodes"]

_LOOK_S = 1.0
_ASKED_S = 30.0


def main(argv: Sequence[str]) -> int:
    """The command line; 0 when all are there, 1 with one line when they are not in time."""
    address, num_nodes, limit_s = argv[0], int(argv[1]), float(argv[2])
    try:
        wait_for_nodes(address, num_nodes, limit_s)
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def wait_for_nodes(address: str, num_nodes: int, limit_s: float) -> None:
    """Return when so many nodes are up.

    Raises
    ------
    LaunchError: they are not, within `limit_s` seconds.
    """
    ray = require_ray()
    ends_s = time.monotonic() + limit_s
    _wait_for_head(address, ends_s, limit_s)
    with RayCluster(address, deadline_s=max(1.0, ends_s - time.monotonic())):
        while True:
            found = sum(node["Alive"] for node in ray.nodes())
            if found >= num_nodes:
                print(f"{found} nodes at {address}", flush=True)
                return
            if time.monotonic() > ends_s:
                raise LaunchError(
                    f"ray at {address}: {found} of {num_nodes} nodes came up within {limit_s:g} s; see what "
                    "each `ray start` said, or allow more time"
                )
            time.sleep(_LOOK_S)


def _wait_for_head(address: str, ends_s: float, limit_s: float) -> None:
    command = [*CLI, "health-check", "--address", address]
    while time.monotonic() < ends_s:
        try:
            if subprocess.run(command, capture_output=True, timeout=_ASKED_S).returncode == 0:
                return
        except subprocess.TimeoutExpired:
            pass
        time.sleep(_LOOK_S)
    raise LaunchError(f"ray at {address}: no head came up within {limit_s:g} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
