"""Claims joined with what a machine offers: decided here, elsewhere, or by arithmetic alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.claims import Claim, load_all
from reports.commands.decidable import decidable

CLAIMS = Path(__file__).parents[1] / "bench" / "claims"


def claim(name: str, *requires: str, **changes: object) -> Claim:
    fields = {
        "id": name, "version": 1, "source": "a test", "says": "a test", "form": "at_least",
        "metric": "total_s", "treatment": "cascade", "control": "baseline", "experiment": "cascade",
        "published": 2.0, "requires": requires,
    } | changes  # fmt: skip
    return Claim(**fields)  # type: ignore[arg-type]


OFFERS = [
    "profile:pocket",
    "profile:node",
    "device:NVIDIA H200",
    "model:random:meta-llama/Llama-2-7b-hf",
    "model:nano",
]


@pytest.mark.parametrize(
    ("needs", "where"),
    [
        ((), "here"),
        (("profile:node", "device:h200"), "here"),
        (("profile:pocket", "workload:anything", "budget_gb:0.004"), "here"),
        (("evidence:simulated",), "here"),
        (("profile:pocket", "small:nano"), "here"),
        (("profile:node", "model:llama-2-7b"), "random"),
        (("device:a100",), "elsewhere"),
        (("profile:node", "backend:ollama"), "elsewhere"),
        (("profile:node", "model:llama-2-7b", "weights:trained"), "elsewhere"),
    ],
)
def test_a_claim_is_decided_where_its_needs_are_met(needs: tuple[str, ...], where: str) -> None:
    """What a run chooses by its options is met; a model may take any role."""
    found = decidable("cascade", [claim("one", *needs)], OFFERS)
    assert (found.here == ("one",)) == (where in ("here", "random"))
    assert (found.on_random == ("one",)) == (where == "random")
    assert ("one" in found.elsewhere) == (where == "elsewhere")


def test_the_same_machine_decides_more_claims_than_one_that_offers_less() -> None:
    """Of the claims that are there: none is lost by an offer, and none is counted twice."""
    claims = load_all(CLAIMS)
    for name in {claim.experiment for claim in claims}:
        own = [claim for claim in claims if claim.experiment == name]
        less, more = (decidable(name, own, some) for some in (OFFERS[:1], OFFERS))
        assert set(less.here) <= set(more.here)
        assert less.anywhere == more.anywhere
        for found in (less, more):
            parts = [*found.here, *found.anywhere, *found.elsewhere]
            assert sorted(parts) == sorted(claim.id for claim in own)


def test_the_command_counts_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line per experiment, what the others need beneath, the sum at the end."""
    path = tmp_path / "offers.json"
    path.write_text(json.dumps({"offers": OFFERS}))
    assert main(["decidable", str(path), "--claims", str(CLAIMS), "--ids"]) == 0
    out = capsys.readouterr().out
    assert "on random weights, if about time or memory" in out
    assert "need backend:ollama, gemma:gemma2-2b" in out
    assert f"of {len(load_all(CLAIMS))} by a run here" in out.splitlines()[-1]


@pytest.mark.parametrize("text", ["", "[]", '{"offers": "x"}', '{"offers": ["nothing"]}', '{"offer": []}'])
def test_offers_that_are_none_are_one_line(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to give instead."""
    path = tmp_path / "offers.json"
    path.write_text(text)
    assert main(["decidable", str(path), "--claims", str(CLAIMS)]) == 2
    assert "harness.hardware --json" in capsys.readouterr().err


def test_a_folder_without_claims_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And so is a file that is not there."""
    path = tmp_path / "offers.json"
    path.write_text('{"offers": []}')
    assert main(["decidable", str(path), "--claims", str(tmp_path / "no")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["decidable", str(tmp_path / "gone.json")]) == 2
