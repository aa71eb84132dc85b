"""The reporting plugin's options, and what of a run must be equal for it to be continued."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from reports import journal
from reports.errors import JournalError

__all__ = ["ENVIRONMENT", "MACHINE", "MEASURED_OPTIONS", "add_options", "plan_of"]

MACHINE: pytest.StashKey[str] = pytest.StashKey()
"""What measures, in words, where that is not this machine."""

ENGINE_PACKAGES = ("xllamacpp", "aiohttp", "pytest-benchmark", "torch", "transformers", "ray", "msgspec")
MEASURING = ("harness", "fixtures", "bench")
SCHEMA = ("reports/records.py", "reports/migration.py")
DATA = (".toml", ".json", ".jinja")
ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Variables that set how many threads an engine runs on, and how they wait."""
MEASURED_OPTIONS = (
    "profile", "node", "backend", "workload", "tasks", "vram_gb", "model_id", "rounds",
    "agents", "prompt_tokens", "observation_tokens", "new_tokens", "sleep_s", "arrival_rate",
    "agents_budget_gb", "stop_on_oom", "prefix_cache_url",
    "models", "buffer_gb", "link_gb_s", "lanes",
)  # fmt: skip


def add_options(parser: pytest.Parser) -> None:
    """Add the options that select, judge and store."""
    group = parser.getgroup("assay", "assay: claims and runs")
    group.addoption(
        "--claims",
        choices=["report", "gate", "update", "off"],
        default="report",
        help="report (default); gate: fail on a verdict worse than claims.lock; update: the lock; off",
    )
    group.addoption(
        "--claim", action="append", metavar="ID", help="judge this claim and run just what it needs"
    )
    group.addoption(
        "--results-dir",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where runs go (default: results/)",
    )
    group.addoption("--resume", action="store_true", help="continue the newest run in --results-dir")


def plan_of(config: pytest.Config) -> dict[str, Any]:
    """What must be equal for stored rounds to be reused: code, weights, settings, machine.

    Claims are left out: judging the same measurement against another threshold needs no new measurement.

    Raises
    ------
    JournalError: the workload file or a model file does not exist.
    """
    root = config.rootpath
    code = [p for top in MEASURING for p in (root / top).rglob("*.py")]
    code += [p for name in SCHEMA if (p := root / name).is_file()]
    data = [p for top in MEASURING for p in (root / top).rglob("*") if p.suffix in DATA]
    weights = list((root / "harness" / "models" / "weights").rglob("*.safetensors"))
    claims = root / "bench" / "claims"
    return {
        "code": journal.digest(code, root),
        "data": journal.digest((p for p in data if claims not in p.parents), root),
        "weights": journal.digest(weights, root),
        "settings": {name: _plain(config.getoption(name, None)) for name in MEASURED_OPTIONS},
        "workload": _workload_digest(config),
        "node": _node_digest(config),
        "models": _model_digests(config),
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
        "machine": config.stash.get(MACHINE, None)
        or f"{platform.node()}, {platform.machine()}, {os.cpu_count()} CPUs, {_cpu_model()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ENGINE_PACKAGES},
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str, list)) else str(value)


def _workload_digest(config: pytest.Config) -> str | None:
    path = Path(str(config.getoption("workload", None) or ""))
    if path.suffix != ".json":
        return None
    if not path.is_file():
        raise JournalError(f"--workload: no file {path}; give a JSON file as docs/workloads.md describes")
    return journal.digest([path.resolve()], path.resolve().parent)


def _node_digest(config: pytest.Config) -> str | None:
    path = Path(str(config.getoption("node", None) or ""))
    return journal.digest([path.resolve()], path.resolve().parent) if path.suffix == ".toml" else None


def _model_digests(config: pytest.Config) -> dict[str, str]:
    """role → digest of the file that `--backend ROLE=gguf:FILE` names."""
    out = {}
    for given in config.getoption("backend", None) or []:
        role, _, spec = given.partition("=")
        scheme, _, file = spec.partition("?")[0].partition(":")
        if scheme != "gguf":
            continue
        path = Path(file).resolve()
        if not path.is_file():
            raise JournalError(f"--backend {given}: no file {file}; give a GGUF file")
        out[role] = journal.digest([path], path.parent)
    return out


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "unknown processor"
    )
