"""Agents that reason, wait for a tool and reflect: what keeps their state meanwhile, and what that costs.

Physics. An agent's keys and values stand idle while its tool runs. Kept with a model of its own, each agent
takes W + kv of the device; in a session beside shared weights only kv. A step whose history was kept computes
its new tokens alone, so REFLECT's first token comes sooner by the prompt's computing, and its other tokens
take as long as ever: the ratio of totals tends to 1 with the tokens generated.

Limits. The default model's weights are random: times hang on shapes, not on what the weights say. Memory is a
budget that refuses: what is out of memory here would be on a device of that size. Clients, servers and Ray's
workers share this machine's cores. Ray's arms run one round, beside nothing: a worker takes seconds to import
torch, and a serverless step takes a worker.

Usage:

    pytest bench/test_agents.py                               all of it, about four minutes on two cores
    pytest bench/test_agents.py -k "shared-32"                one variant, and what its name begins
    pytest bench/test_agents.py --agents 1,2,4 --sleep-s 10   other counts, a slower tool
    pytest bench/test_agents.py --ray-address gpu1:6379       on a Ray cluster that runs

Every count of `shared` runs beside `shared-recompute`, the same server without memory between steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

for _package in ("msgspec", "torch", "transformers"):
    if find_spec(_package) is None:
        pytest.skip(
            f"{_package} is missing; run: pip install 'assay[torch,ray,sessions]'", allow_module_level=True
        )

from fixtures.agents import AgentsStand  # noqa: E402
from fixtures.agents_arms import require  # noqa: E402
from fixtures.agents_curves import RATED_ROUNDS, measure_prompts, measure_rated, measure_rates  # noqa: E402
from fixtures.agents_density import DENSITY_ROUNDS, measure_density  # noqa: E402
from fixtures.agents_lines import Lines  # noqa: E402
from fixtures.agents_replay import measure_replay  # noqa: E402
from fixtures.agents_retention import measure_retention  # noqa: E402
from fixtures.agents_runs import Agents, settings_of  # noqa: E402
from fixtures.agents_variants import (  # noqa: E402
    ARMS,
    CURVES,
    RATED,
    REPLAYED,
    RETENTIONS,
    Variant,
    Work,
    counts_of,
    long_prompts_of,
)
from fixtures.backends import plain_errors  # noqa: E402
from fixtures.decode_variants import ENV  # noqa: E402
from fixtures.options import Settings  # noqa: E402
from fixtures.pairing import Pairing  # noqa: E402
from fixtures.planned import Planned, variant_of  # noqa: E402
from harness.errors import HarnessError  # noqa: E402
from reports.records import Record  # noqa: E402

pytestmark = pytest.mark.agents

MEASURED = "--profile replay simulates, and this is measured; run with --profile pocket or node"
ONCE = Settings(rounds=1, warmup_rounds=0)


def planned(item: pytest.Function) -> Planned:
    """What a variant would run, and whether its arm can."""
    name, usual, option = variant_of(item), Settings.of(item.config), item.config.option
    if name == REPLAYED:
        return Planned(ONCE)
    settings = {RATED: usual.at_most(RATED_ROUNDS, warmup_rounds=0)} | dict.fromkeys(RETENTIONS, ONCE)
    settings |= dict(zip(CURVES, (ONCE, ONCE, usual.at_most(DENSITY_ROUNDS, warmup_rounds=0)), strict=True))
    if option.profile == "replay":
        return Planned(settings.get(name, ONCE), why_not=MEASURED)
    if name in settings:
        return Planned(settings[name])
    named = Variant(name)
    try:
        require(named.arm, Work.of(option))
    except HarnessError as exc:
        return Planned(settings_of(named, usual), why_not=str(exc))
    return Planned(settings_of(named, usual))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The counts of every arm, as the profile or --agents has them; the profile's long prompts."""
    option = metafunc.config.option
    if metafunc.function is test_long_prompt:
        metafunc.parametrize("variant", long_prompts_of(option.profile))
    if metafunc.function is not test_agents:
        return
    metafunc.parametrize(
        "variant",
        [
            pytest.param(f"{arm}-{count}", marks=pytest.mark.nightly if is_nightly else ())
            for arm in ARMS
            for count, is_nightly in counts_of(option.profile, arm, option.agents)
        ],
    )


@pytest.fixture(scope="module")
def the_agents(request: pytest.FixtureRequest) -> Iterator[Agents]:
    """The arms, for as long as this file is measured."""
    config, lines = request.config, Lines()
    with pytest.MonkeyPatch.context() as patch, plain_errors():
        for key, value in ENV.items():
            patch.setenv(key, value)
        stand = AgentsStand(Work.of(config.option))
        try:
            config.pluginmanager.register(lines, "agents-lines")
            yield Agents(stand, config.option.profile, lines)
        finally:
            stand.close()


@pytest.fixture
def agents(the_agents: Agents) -> Agents:
    """The arms, where something real is asked for."""
    if the_agents.profile == "replay":
        pytest.skip(MEASURED)
    return the_agents


def test_agents(variant: str, agents: Agents, paired: Pairing, pytestconfig: pytest.Config) -> None:
    """So many agents at once, each with its state where the arm keeps it."""
    named = Variant(variant)
    at = agents.refused_at.get(named.arm)
    if pytestconfig.option.stop_on_oom and at is not None and at < named.agents:
        pytest.skip(f"{named.arm} was refused memory at {at} agents; run without --stop-on-oom")
    with plain_errors():
        _verify(agents.measure(named, paired))


def test_long_prompt(variant: str, agents: Agents, paired: Pairing) -> None:
    """One agent whose prompt is long: what REFLECT saves of REASON."""
    with plain_errors():
        _verify(agents.measure(Variant(variant), paired))


@pytest.mark.parametrize("variant", [RATED])
def test_rate(variant: str, agents: Agents, paired: Pairing) -> None:
    """32 resident sessions whose agents arrive one by one, beside an agent alone."""
    with plain_errors():
        _verify(measure_rated(agents, variant, paired))


@pytest.mark.parametrize("variant", CURVES)
def test_curve(variant: str, agents: Agents, paired: Pairing) -> None:
    """Latency along the prompt and along the rate of arrivals; what fits along the budget."""
    measures = dict(zip(CURVES, (measure_prompts, measure_rates, measure_density), strict=True))
    with plain_errors():
        _verify(measures[variant](agents, paired))


@pytest.mark.parametrize("variant", RETENTIONS)
def test_retention(variant: str, agents: Agents, paired: Pairing) -> None:
    """Twice as many agents as fit: what becomes of those that act."""
    with plain_errors():
        _verify(measure_retention(agents, variant, paired))


@pytest.mark.parametrize("variant", [REPLAYED])
def test_replay(variant: str, the_agents: Agents, paired: Pairing) -> None:
    """Up to 10,000 agents, simulated."""
    with plain_errors():
        _verify(measure_replay(the_agents, paired))


def _verify(record: Record) -> None:
    """Fail the test, now that its record is stored, when something failed or did not run as named."""
    assert not record.failures, record.failures[:3]
    broken: list[Any] = [f"{check.name}: {check.observed}" for check in record.checks if not check.ok]
    assert not broken, broken
