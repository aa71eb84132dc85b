"""Switching between models on a device that does not hold them all: what stays, what is copied, who waits.

Physics. A request for a model whose bytes are on the device computes at once; any other waits for its
missing bytes ÷ link, less what arrives while the layers before it run. Weights are read-only, so that what is
evicted is not copied back: the host has had it all along. Which bytes are missing is decided by what was
asked before, and no policy copies fewer than Belady's, which knows the future.

Limits. Three random Llamas of the published sizes ÷ 1000, and a link that is declared and paced at 0.5 GB/s:
hits, bytes, tokens and the order of policies are the ones of any device, seconds are this link's. Pinned
against pageable memory, real overlap and vLLM need a GPU (`--profile node`). P50 is a threshold: above 50 %
of hits it is computing alone, so the mean, the tail and the bytes stand beside it. A trace of 30 requests has
no P99; that of 30 seeds pooled has. What is simulated at the published scale confirms nothing measured.

Usage:

    pytest bench/test_switching.py                                  all of it, about two minutes on two cores
    pytest bench/test_switching.py -k "home-slot and not sync"      some arms
    pytest bench/test_switching.py --rounds 3 --buffer-gb 32        other seeds, a larger arena
    pytest bench/test_switching.py --workload trace.json            requests of your own: docs/traces.md
    tox -e switching-nightly                                        30 seeds of home-slot and keep-last, 13 of
                                                                    every other arm; eight minutes

Every arm runs in a process of its own, beside `reload-every` on the same trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

for _package in ("msgspec", "torch"):
    if find_spec(_package) is None:
        pytest.skip(
            f"{_package} is missing; run: pip install 'assay[torch,sessions]'", allow_module_level=True
        )

from fixtures.backends import plain_errors  # noqa: E402
from fixtures.decode_variants import ENV  # noqa: E402
from fixtures.options import Settings  # noqa: E402
from fixtures.pairing import Pairing  # noqa: E402
from fixtures.planned import Planned, variant_of  # noqa: E402
from fixtures.switching import SwitchingStand  # noqa: E402
from fixtures.switching_belady import measure_belady  # noqa: E402
from fixtures.switching_concurrent import CONCURRENT_ROUNDS, measure_concurrent  # noqa: E402
from fixtures.switching_lines import Lines  # noqa: E402
from fixtures.switching_memcpy import MEMCPY_ROUNDS, measure_memcpy  # noqa: E402
from fixtures.switching_runs import Switching  # noqa: E402
from fixtures.switching_simulated import measure_simulated  # noqa: E402
from fixtures.switching_traces import is_trace, trace_of  # noqa: E402
from fixtures.switching_variants import (  # noqa: E402
    ARMS,
    CONCURRENT,
    MEMCPY,
    NODE_ARMS,
    SIMULATED,
    Work,
    seeds_of,
)
from reports.records import Record  # noqa: E402

pytestmark = pytest.mark.switching

MEASURED = "--profile replay simulates, and this is measured; run with --profile pocket or node"
NEEDS_GPU = "vLLM, and a process for each model, need a GPU; run there with --profile node"
NO_TRACE = "--workload {} is no trace of requests; traces: docs/traces.md"


def planned(item: pytest.Function) -> Planned:
    """What a variant would run, and whether it can."""
    name, option, is_night = variant_of(item), item.config.option, item.originalname == "test_all_seeds"
    has_trace = is_trace(item.config)
    seeds = seeds_of(name, is_night=is_night, asked=option.rounds, has_trace=has_trace)
    settings = {
        "test_simulated": Settings(rounds=1, warmup_rounds=0),
        "test_concurrent": Settings(rounds=option.rounds or CONCURRENT_ROUNDS, warmup_rounds=1),
        "test_memcpy": Settings(rounds=option.rounds or MEMCPY_ROUNDS, warmup_rounds=1),
    }.get(item.originalname, Settings(rounds=seeds, warmup_rounds=0))
    if option.workload is not None and not has_trace:
        return Planned(settings, why_not=NO_TRACE.format(option.workload))
    if option.profile == "replay" and name not in SIMULATED:
        return Planned(settings, why_not=MEASURED)
    return Planned(settings, why_not=NEEDS_GPU if name in NODE_ARMS and option.profile != "node" else "")


@pytest.fixture(scope="module")
def the_lines(request: pytest.FixtureRequest) -> Lines:
    """What the terminal says at the end."""
    lines = Lines()
    request.config.pluginmanager.register(lines, "switching-lines")
    return lines


@pytest.fixture(scope="module")
def switching(request: pytest.FixtureRequest, the_lines: Lines) -> Iterator[Switching]:
    """The arms, for as long as this file is measured."""
    config = request.config
    _skip_other_workloads(config)
    if config.option.profile == "replay":
        pytest.skip(MEASURED)
    with pytest.MonkeyPatch.context() as patch, plain_errors():
        for key, value in ENV.items():
            patch.setenv(key, value)
        stand = SwitchingStand(Work.of(config.option, trace_of(config)))
        try:
            stand.require_room()  # an unknown model or too small an arena is the same error for every arm
            yield Switching(stand, config.option.profile, the_lines)
        finally:
            stand.close()


@pytest.mark.parametrize("variant", [*ARMS, *NODE_ARMS])
def test_switching(variant: str, switching: Switching, paired: Pairing, pytestconfig: pytest.Config) -> None:
    """An arm answers the trace of each seed, beside one that reloads for every request."""
    _measure(variant, switching, paired, pytestconfig, is_night=False)


@pytest.mark.nightly
@pytest.mark.stands_in_for("test_switching")
@pytest.mark.parametrize("variant", [*ARMS, *NODE_ARMS])
def test_all_seeds(variant: str, switching: Switching, paired: Pairing, pytestconfig: pytest.Config) -> None:
    """The same, with as many seeds as a tail takes."""
    _measure(variant, switching, paired, pytestconfig, is_night=True)


@pytest.mark.parametrize("variant", [CONCURRENT])
def test_concurrent(variant: str, switching: Switching, paired: Pairing, pytestconfig: pytest.Config) -> None:
    """Eight clients of one server ask for three models at once, beside the same requests in turn."""
    with plain_errors():
        _verify(measure_concurrent(switching, paired, pytestconfig.option.rounds))


@pytest.mark.parametrize("variant", [MEMCPY])
def test_memcpy(variant: str, switching: Switching, paired: Pairing, pytestconfig: pytest.Config) -> None:
    """A miss on a link without a throttle, beside a memcpy of its bytes."""
    with plain_errors():
        _verify(measure_memcpy(switching, paired, pytestconfig.option.rounds))


@pytest.mark.parametrize("variant", SIMULATED)
def test_simulated(variant: str, paired: Pairing, the_lines: Lines, pytestconfig: pytest.Config) -> None:
    """The same policies at the published scale, on declared links."""
    _skip_other_workloads(pytestconfig)
    with plain_errors():
        if variant == "sim-belady":
            record = measure_belady(pytestconfig.option.profile, paired)
        else:
            record = measure_simulated(variant, pytestconfig.option, trace_of(pytestconfig), paired)
        the_lines.tell(record)
        _verify(record)


def _measure(
    variant: str, switching: Switching, paired: Pairing, config: pytest.Config, *, is_night: bool
) -> None:
    if variant in NODE_ARMS and switching.profile != "node":
        pytest.skip(NEEDS_GPU)
    has_trace = switching.stand.work.trace is not None
    seeds = seeds_of(variant, is_night=is_night, asked=config.option.rounds, has_trace=has_trace)
    with plain_errors():
        _verify(switching.measure(variant, seeds, paired))


def _skip_other_workloads(config: pytest.Config) -> None:
    if config.option.workload is not None and not is_trace(config):
        pytest.skip(NO_TRACE.format(config.option.workload))


def _verify(record: Record) -> None:
    """Fail the test, now that its record is stored, when something failed or did not run as named."""
    assert not record.failures, record.failures[:3]
    broken: list[Any] = [f"{check.name}: {check.observed}" for check in record.checks if not check.ok]
    assert not broken, broken
