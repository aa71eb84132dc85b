"""The arms of switching, by name.

`arena` has every policy of `harness.residency.arms` on a live arena; `fresh`, `disk`, `processes` and `vllm`
have what other systems do instead, and `reference` what every token is compared with.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from harness.errors import UsageError
from harness.models.torch_engine import require_torch
from harness.residency.arms import ARMS
from harness.switching.base import Arm
from harness.switching.setting import Setting

__all__ = ["NAMES", "check_arm", "make_arm"]

_OTHERS = {
    "reference": ("reference", "Reference"),
    "fresh": ("fresh", "Fresh"),
    "serverless-warm": ("disk", "ServerlessWarm"),
    "serverless-cold": ("disk", "ServerlessCold"),
    "process-per-model": ("processes", "ProcessPerModel"),
    "vllm-sleep": ("vllm", "VllmSleep"),
    "vllm-recreate": ("vllm", "VllmRecreate"),
}
NAMES = (*ARMS, *_OTHERS)


def check_arm(name: str) -> None:
    """Raise UsageError if there is no such arm."""
    if name not in NAMES:
        raise UsageError(f"arm {name!r}: unknown; use {', '.join(NAMES)}")


def make_arm(name: str, setting: Setting) -> Arm:
    """Make an arm in this process, with its models.

    Raises
    ------
    UsageError: there is no such arm; ModelError, no such model.
    BudgetError: the models need more memory than there is.
    UnavailableError: it cannot run here.
    """
    check_arm(name)
    if not name.startswith("vllm-"):
        require_torch(name, setting.device, needs_transformers=False)
    if name in ARMS:
        arena = import_module("harness.switching.arms.arena")
        return cast(Arm, arena.ArenaArm(name, setting))
    module, kind = _OTHERS[name]
    return cast(Arm, getattr(import_module(f"harness.switching.arms.{module}"), kind)(setting))
