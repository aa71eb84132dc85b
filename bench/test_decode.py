"""Decoding with sessions on a server: what it costs to leave less there.

Physics. A token decoded alone reads every weight once, so it takes at least weights ÷ memory bandwidth; that
floor is measured here and stands beside each time per token. What a mode leaves at the client has to cross
for each token: against ids alone it is 1 + bytes ÷ (link × time per token) times as slow. Sessions decoded
together share one reading of the weights, and attend one by one.

Limits. The default model's weights are random: times hang on shapes, not on what the weights say. A link is
paced for real up to 2 Gbps, by waiting; a faster one, as the source's 25 Gbps, is modelled: native's measured
time and the mode's counted bytes by a formula, labelled `modelled`.
Rounds of a mode that ships weights, and of a link of 100 Mbps, decode 4 tokens, others over a link 16: the
record's `workload` says so, and published rows ask for 50. Client and server share this machine's cores.

Usage:

    pytest bench/test_decode.py                        all of it, about two minutes on two cores
    pytest bench/test_decode.py -k "full and not gbps" one mode
    pytest bench/test_decode.py --model-id PATH        a model of your own

Every variant runs beside `native`, the same engine in this process, of the same weights in the same layout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

for _package in ("msgspec", "torch", "transformers"):
    if find_spec(_package) is None:
        pytest.skip(
            f"{_package} is missing; run: pip install 'assay[torch,sessions]'", allow_module_level=True
        )

from fixtures.backends import plain_errors  # noqa: E402
from fixtures.decode import DecodeStand  # noqa: E402
from fixtures.decode_batches import measure_batch, rounds_of  # noqa: E402
from fixtures.decode_lines import Lines, too_late  # noqa: E402
from fixtures.decode_modelled import MODELLED_ROUNDS, measure_modelled  # noqa: E402
from fixtures.decode_runs import Decoding, settings_of  # noqa: E402
from fixtures.decode_variants import BLIND, ENV, LOCAL, SLOWED, Chosen, Variant  # noqa: E402
from fixtures.options import Settings  # noqa: E402
from fixtures.pairing import Pairing  # noqa: E402
from fixtures.planned import Planned, variant_of  # noqa: E402
from reports.records import Record  # noqa: E402

pytestmark = pytest.mark.decode

MODES = (
    "native", "full", "full-logits", "partially-aware", "partially-aware-both-ways", "semantic-blind",
    "transformers-generate",
)  # fmt: skip
LINKED = (
    "full-100mbps", "full-1gbps", "full-2gbps",
    "partially-aware-100mbps", "partially-aware-1gbps", "partially-aware-2gbps",
    "partially-aware-both-ways-1gbps", "semantic-blind-1gbps",
)  # fmt: skip
MODELLED = (
    "full-25gbps", "partially-aware-25gbps", "partially-aware-both-ways-25gbps", "semantic-blind-25gbps",
)  # fmt: skip
BATCHED = ("batched-32", "transformers-batched-32")


def planned(item: pytest.Function) -> Planned:
    """What a variant would run."""
    name, usual = variant_of(item), Settings.of(item.config)
    if name in BATCHED:
        return Planned(usual.at_most(rounds_of(name), warmup_rounds=1))
    if name in MODELLED:
        return Planned(usual.at_most(MODELLED_ROUNDS, warmup_rounds=0))
    return Planned(settings_of(Variant(name=name), usual))


@pytest.fixture(scope="module")
def decoding(request: pytest.FixtureRequest) -> Iterator[Decoding]:
    """Servers, engines and prompts, for as long as this file is measured."""
    config = request.config
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = [str(item.callspec.params["variant"]) for item in items if item.path == request.path]
    lines = Lines()
    if late := too_late(sys.modules, os.environ):
        lines.lines.append(late)
    with pytest.MonkeyPatch.context() as patch, plain_errors():
        for key, value in ENV.items():
            patch.setenv(key, value)
        stand = DecodeStand(
            Chosen.of(config.option.profile, config.option.model_id),
            needs_packed=any(not name.startswith((BLIND, *LOCAL)) for name in names),
            needs_blind=any(name.startswith(BLIND) for name in names),
        )
        try:
            config.pluginmanager.register(lines, "decode-lines")
            yield Decoding(stand, config.option.profile, lines)
        finally:
            stand.close()


@pytest.mark.parametrize("variant", [*MODES, *LINKED])
def test_decode(variant: str, decoding: Decoding, paired: Pairing) -> None:
    """A mode decodes prompts one at a time, beside native."""
    with plain_errors():
        _verify(decoding.measure(Variant(name=variant), paired))


@pytest.mark.parametrize("variant", SLOWED)
def test_slowed(variant: str, decoding: Decoding, paired: Pairing) -> None:
    """Native without recorded steps, and without kernels of their own, beside native with both."""
    if decoding.stand.chosen.device == "cpu":
        pytest.skip("needs an NVIDIA GPU: on a processor decode steps are not recorded")
    way = decoding.stand.native(False).engine.decoding
    if way.name != "graphs":
        pytest.skip(f"needs decode steps that are CUDA graphs: {way.why_not}")
    with plain_errors():
        _verify(decoding.measure(Variant(name=variant), paired))


@pytest.mark.parametrize("variant", MODELLED)
def test_modelled(variant: str, decoding: Decoding, paired: Pairing) -> None:
    """A mode's counted bytes cross a link that is a formula, on top of native's measured time."""
    with plain_errors():
        _verify(measure_modelled(decoding, Variant(name=variant), paired))


@pytest.mark.parametrize("variant", BATCHED)
def test_batched(variant: str, decoding: Decoding, paired: Pairing) -> None:
    """Sessions decode together, beside the same ones one after the other."""
    with plain_errors():
        _verify(measure_batch(decoding, variant, paired))


def _verify(record: Record) -> None:
    """Fail the test, now that its record is stored, when something failed or did not run as named."""
    assert not record.failures, record.failures[:3]
    broken: list[Any] = [
        f"{check.name}: {check.observed}"
        for check in record.checks
        # Without NVML the times are as good: only claims about utilisation ask for this one.
        if not check.ok and check.name != "utilisation_sampled"
    ]
    assert not broken, broken
