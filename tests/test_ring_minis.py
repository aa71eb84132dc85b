"""The minis: the published models at a thousandth of their size."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from harness.errors import ModelError, UsageError
from harness.residency.catalogue import published
from harness.sessions.ring.loading import load_host, load_hosts, load_resident
from harness.sessions.ring.minis import MINIS, SCALE, mini
from harness.sessions.ring.serve import greedy


def test_a_packed_mini_has_a_thousandth_of_the_published_bytes_within_two_percent() -> None:
    """Padding included; the published sizes are those of the simulator."""
    sizes = {}
    for name in MINIS:
        host = load_host(name)
        sizes[name] = host.blob.num_bytes
        host.blob.close()
    wanted = [model.layout.num_bytes for model in published().values()]
    assert [mini(name).published_bytes for name in MINIS] == pytest.approx(wanted, rel=1e-6)
    for (name, num_bytes), published_bytes in zip(sizes.items(), wanted, strict=True):
        assert num_bytes == pytest.approx(SCALE * published_bytes, rel=0.02), name
    assert sizes["llama-mini"] + sizes["mistral-mini"] > 25e6 > sizes["llama-mini"] + sizes["phi-mini"]


def test_every_mini_has_twelve_layers_and_a_head_of_its_own() -> None:
    """Chunks: embedding, layers, head."""
    for name in MINIS:
        host = load_host(name)
        chunks = [chunk.name for chunk in host.blob.manifest.layout.chunks]
        host.blob.close()
        assert chunks == ["embed", *(f"layer.{index}" for index in range(12)), "head"]
        assert "head" in {tensor.name for tensor in host.blob.manifest.tensors}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    """So do other names."""
    checksums = []
    for name, seed in [("phi-mini", 0), ("phi-mini", 0), ("phi-mini", 1), ("llama-mini", 0)]:
        host = load_host(name, seed=seed)
        checksums.append(host.blob.checksum())
        host.blob.close()
    assert checksums[0] == checksums[1]
    assert len(set(checksums)) == 3


@pytest.mark.parametrize("name", MINIS)
def test_greedy_answers_do_not_end_in_one_token(name: str) -> None:
    """Of 40 tokens at least 20 differ, and another prompt gives another answer."""
    model = load_resident(name)
    one, other = greedy(model, range(8), 40), greedy(model, range(8, 16), 40)
    assert min(len(set(one)), len(set(other))) >= 20
    assert one != other


def test_no_answer_hangs_on_rounding() -> None:
    """The likeliest token is ahead of the next by far more than batches or kernels move a logit (1e-5)."""
    from tests.tiny_ring import logits_of

    prompts = [[(31 * row + 7 * column) % 512 for column in range(8)] for row in range(24)]
    for name in MINIS:
        best = logits_of(load_resident(name), prompts).topk(2).values
        assert float((best[:, 0] - best[:, 1]).min()) > 1e-4, name


@pytest.mark.nightly
def test_minis_are_made_without_transformers() -> None:
    """Whose import takes longer than all the rest."""
    code = (
        "import sys; from harness.sessions.ring.loading import load_hosts\n"
        "from harness.sessions.ring.minis import MINIS\n"
        "load_hosts(MINIS); print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_half_precision_takes_half_the_bytes() -> None:
    """And a type that is none is refused."""
    host = load_host("phi-mini", dtype="bfloat16")
    assert host.blob.num_bytes == pytest.approx(5.25e6 / 2, rel=0.01)
    assert {tensor.dtype for tensor in host.blob.manifest.tensors} == {"bfloat16"}
    host.blob.close()
    assert load_resident("phi-mini", dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UsageError, match="dtype 'float7' is unknown; choose one of"):
        load_host("phi-mini", dtype="float7")


def test_unknown_and_doubled_names_are_refused() -> None:
    """The message says which there are."""
    with pytest.raises(ModelError, match="mini 'gpt-mini': unknown; use llama-mini, mistral-mini, phi-mini"):
        mini("gpt-mini")
    with pytest.raises(UsageError, match="phi-mini is named twice"):
        load_hosts(["phi-mini", "phi-mini"])
