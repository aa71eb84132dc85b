"""The command line's options for several models, and the engine that they describe; imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from harness.errors import UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.arguments import not_negative, positive, shares
from harness.sessions.contract import Engine

__all__ = ["add_ring", "check_ring", "ring_maker"]


_OWN = ("arena_mb", "link_mb_s", "arm", "popularity", "max_wait_s", "min_residency_s", "seed")


def add_ring(ring: argparse._ArgumentGroup) -> None:
    """Add the options; `--models` is beside `--model`."""
    ring.add_argument("--arena-mb", type=positive(float), metavar="MB",
                      help="of the budget, for weights; the rest is for keys and values")  # fmt: skip
    ring.add_argument("--link-mb-s", type=positive(float), metavar="R",
                      help="have weights come as on a link of R MB/s; on a CPU")  # fmt: skip
    ring.add_argument("--arm", metavar="A",
                      help="what is resident: home-slot-lookahead (default), or another arm of residency"
                     )  # fmt: skip
    ring.add_argument("--popularity", type=shares, metavar="P,P,…", help="share of requests per model")
    ring.add_argument("--max-wait-s", type=not_negative, metavar="S",
                      help="that a model with turns waits for another (1); 0: in the order of arrival"
                     )  # fmt: skip
    ring.add_argument("--min-residency-s", type=not_negative, metavar="S",
                      help="that a model stays before others have their turn (0)")  # fmt: skip
    ring.add_argument("--seed", type=int, metavar="N", help="of random weights (0)")


def check_ring(options: argparse.Namespace) -> None:
    """Check what goes with what.

    Raises
    ------
    UsageError: an option is missing, or has no meaning beside the others.
    """
    given = [name for name in _OWN if getattr(options, name) is not None]
    if options.models is None:
        if given:
            name = given[0].replace("_", "-")
            raise UsageError(f"--{name} is for several models; name them with --models A,B,C")
        return
    if options.arena_mb is None:
        raise UsageError("--models needs --arena-mb: how much of the budget is for weights")
    if options.allow_weights:
        raise UsageError("--allow-weights is for one model; nobody may write to the weights of several")
    if options.popularity is not None and len(options.popularity) != len(options.models):
        num = len(options.models)
        raise UsageError(
            f"--popularity has {len(options.popularity)} shares; give one for each of {num} models"
        )


def ring_maker(options: argparse.Namespace, budget: DeviceBudget) -> Callable[[], Engine]:
    """What makes the engine, in the thread that it lives in."""

    def make() -> Engine:
        from harness.models.torch_engine import require_torch

        require_torch(options.models[0], options.device, needs_transformers=False)
        from harness.sessions.ring.hosting import HostedRing

        return HostedRing.load(
            options.models,
            budget,
            arena_bytes=int(options.arena_mb * 1e6),
            device=options.device,
            dtype=options.dtype,
            threads=options.threads,
            max_session_tokens=options.max_session_tokens,
            max_sessions=options.max_sessions,
            decoding=options.decoding,
            policy=options.policy,
            prefill_chunk=options.prefill_chunk,
            **_settings(options),
        )

    return make


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those of `HostedRing.load` that were given."""
    found: dict[str, Any] = {
        "link_bytes_per_s": None if options.link_mb_s is None else options.link_mb_s * 1e6,
        "arm_name": options.arm,
        "popularity": dict(zip(options.models, options.popularity or (), strict=False)) or None,
        "max_wait_s": options.max_wait_s,
        "min_residency_s": options.min_residency_s,
        "seed": options.seed,
    }
    return {name: value for name, value in found.items() if value is not None}
