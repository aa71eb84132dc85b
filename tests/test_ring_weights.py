"""A model over an arena: the bits of tensors of its own, and no chunk read before or after its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.errors import BudgetError, ModelError, UsageError
from harness.residency.arms import ARMS
from harness.residency.policies.base import Copy, Plan
from harness.sessions.core.model import Span
from harness.sessions.core.slab import Slab
from harness.sessions.ring.loading import HostModel
from harness.sessions.ring.packed import check, pack_model
from harness.sessions.ring.weights import StreamedModel
from tests.tiny_ring import NAMES, arena_over, hosts, logits_of, tiny_donor, tiny_model

TEXTS = [[5], [7], [1, 2, 3, 4, 5, 6], [9, 8]]


class Flickering:
    """A pass whose chunks are there between `wait` and `done` only; before and after there is noise."""

    def __init__(self, host: HostModel, arena: torch.Tensor, places: tuple[int, ...]) -> None:
        self.model = host.name
        self.plan = Plan(host.name, host.blob.manifest.layout)
        self.places = places
        self.said: list[Any] = []
        self._host = host
        self._arena = arena

    def wait(self, chunk: int) -> None:
        self.said.append(("wait", chunk))
        starts = self.plan.layout.starts
        source = torch.frombuffer(
            bytearray(self._host.blob.view[starts[chunk] : starts[chunk + 1]]), dtype=torch.uint8
        )
        self._place(chunk).copy_(source)

    def done(self, chunk: int) -> None:
        self.said.append(("done", chunk))
        self._place(chunk).fill_(0xFF)  # NaN

    def again(self) -> None:
        self.said.append("again")

    def _place(self, chunk: int) -> torch.Tensor:
        at = self.places[chunk]
        return self._arena[at : at + self.plan.layout.chunks[chunk].num_bytes]


KINDS = [{}, {"has_biases": True}, {"is_tied": True}]


@pytest.fixture(params=KINDS, ids=["plain", "biases", "tied"])
def kind(request: pytest.FixtureRequest) -> dict[str, bool]:
    return request.param


@pytest.fixture
def host(kind: dict[str, bool]) -> Iterator[HostModel]:
    with hosts(**kind) as made:
        yield made["ada"]


def noise(num_bytes: int) -> torch.Tensor:
    return torch.full((num_bytes,), 0xFF, dtype=torch.uint8)


def scattered(host: HostModel, gap: int = 64) -> tuple[int, ...]:
    """Places in the reverse order, with gaps."""
    places, at = [], gap
    for chunk in reversed(host.blob.manifest.layout.chunks):
        places.append(at)
        at += chunk.num_bytes + gap
    return tuple(reversed(places))


def test_views_compute_the_same_bits_and_read_chunks_only_when_they_are_there(
    host: HostModel, kind: dict[str, bool]
) -> None:
    """Each chunk's bytes appear at `wait` and are noise again at `done`."""
    arena = noise(2 * host.blob.num_bytes)
    model = StreamedModel("ada", host.skeleton, host.blob.manifest, arena)
    running = Flickering(host, arena, scattered(host))
    with model.using(running):
        found = logits_of(model, TEXTS)
    assert torch.equal(found, logits_of(tiny_model("ada", **kind), TEXTS))
    assert arena.eq(0xFF).all(), "a chunk was not said to be done"
    num = len(running.places)
    inner = [word for chunk in range(1, num) for word in (("wait", chunk), ("done", chunk))]
    early, late = ([], [("done", 0)]) if kind.get("is_tied") else ([("done", 0)], [])
    one_pass = [("wait", 0), *early, *inner, *late]
    assert running.said == [*one_pass, "again", *one_pass]


def test_a_pass_without_logits_waits_for_its_head_too(host: HostModel) -> None:
    """So that all of a pass has landed when the next one is planned."""
    arena = noise(2 * host.blob.num_bytes)
    model = StreamedModel("ada", host.skeleton, host.blob.manifest, arena)
    running = Flickering(host, arena, scattered(host))
    slab = Slab(model.slab_shape, 4)
    with torch.inference_mode(), model.using(running):
        assert model.forward([Span(slab, [1, 2], wants_logits=False)]).shape == (0, model.shape.vocab_size)
    assert ("wait", len(running.places) - 1) in running.said
    assert arena.eq(0xFF).all()


def test_only_what_moved_is_bound_anew(host: HostModel) -> None:
    """Places that stay cost nothing."""
    model = StreamedModel("ada", host.skeleton, host.blob.manifest, noise(2 * host.blob.num_bytes))
    places = scattered(host)
    assert model.bind(places) == len(places)
    assert model.bind(list(places)) == 0
    moved = (*places[:2], 0, *places[3:])
    assert model.bind(moved) == 1
    assert model.bind(places) == 1


def test_nothing_is_computed_without_a_request(host: HostModel) -> None:
    """Before the first one, and after each."""
    arena = noise(2 * host.blob.num_bytes)
    model = StreamedModel("ada", host.skeleton, host.blob.manifest, arena)
    for _ in range(2):
        with pytest.raises(UsageError, match="ada: its weights are not in the arena; begin a request first"):
            logits_of(model, TEXTS)
        with model.using(Flickering(host, arena, scattered(host))):
            logits_of(model, TEXTS)


def test_a_tied_head_refuses_to_be_written_over_within_a_pass() -> None:
    """Its embedding is needed at the end again; the message says what would help."""
    with hosts(is_tied=True) as made:
        host = made["ada"]
        arena = noise(2 * host.blob.num_bytes)
        model = StreamedModel("ada", host.skeleton, host.blob.manifest, arena)
        running = Flickering(host, arena, scattered(host))
        layout = host.blob.manifest.layout
        running.plan = Plan("ada", layout, (Copy(3, 4, layout.starts[3], 0, 64, after=0),))
        with pytest.raises(BudgetError, match="ada: its head is its embedding"):
            model.begin(running)


@pytest.mark.parametrize("arm_name", ARMS)
def test_every_arm_computes_the_bits_of_the_resident_reference(arm_name: str) -> None:
    """Models in turns through an arena that holds no two of them, in changing order."""
    order = [NAMES[(number * number + number // 3) % 3] for number in range(24)]
    with hosts() as made:
        capacity = max(host.blob.num_bytes for host in made.values()) + 64
        with arena_over(made, capacity, arm_name=arm_name, future=order) as arena:
            models = {
                name: StreamedModel(name, host.skeleton, host.blob.manifest, arena.lane.arena)
                for name, host in made.items()
            }
            for number, name in enumerate(order):
                texts = [[*text, number] for text in TEXTS]
                running = arena.begin(name)
                if ARMS[arm_name].lookahead and number + 1 < len(order):
                    arena.look_ahead(order[number + 1])
                with models[name].using(running):
                    found = logits_of(models[name], texts)
                running.end()
                assert torch.equal(found, logits_of(tiny_model(name), texts)), number


def test_a_model_larger_than_the_arena_streams_through_it() -> None:
    """Every pass copies again what did not stay, and computes the same bits."""
    with hosts() as made:
        host = made["ada"]
        with arena_over({"ada": host}, host.blob.num_bytes - 64) as arena:
            model = StreamedModel("ada", host.skeleton, host.blob.manifest, arena.lane.arena)
            for _ in range(3):
                running = arena.begin("ada")
                with model.using(running):
                    assert torch.equal(logits_of(model, TEXTS), logits_of(tiny_model("ada"), TEXTS))
                assert running.end().bytes_in > 0


class TestBlobs:
    """What is packed is what is computed with."""

    def test_a_tensor_of_another_shape_is_named(self) -> None:
        """As a file of another model would have it."""
        with hosts() as made:
            skeleton, manifest = made["ada"].skeleton, made["ada"].blob.manifest
            wrong = manifest.tensors[3]._replace(shape=(2, 2))
            bad = replace(manifest, tensors=(*manifest.tensors[:3], wrong, *manifest.tensors[4:]))
            with pytest.raises(ModelError, match=rf"ada: {wrong.name} is \[2, 2\] in the blob, and \["):
                check("ada", skeleton, bad)

    def test_a_blob_of_another_model_is_refused(self) -> None:
        """By its number of layers, and by a tensor that is not there."""
        with hosts() as made:
            with pytest.raises(ModelError, match="5 chunks in the blob where the model has 6"):
                check("ada", made["ada"].skeleton, made["ben"].blob.manifest)
            manifest = made["ada"].blob.manifest
            short = replace(manifest, tensors=manifest.tensors[:-1])
            with pytest.raises(ModelError, match="ada: head is missing from the blob"):
                check("ada", made["ada"].skeleton, short)

    def test_types_may_not_be_mixed(self) -> None:
        """The forward pass is in one."""
        with hosts() as made:
            manifest = made["ada"].blob.manifest
            mixed = replace(
                manifest, tensors=(manifest.tensors[0]._replace(dtype="int64"), *manifest.tensors[1:])
            )
            with pytest.raises(ModelError, match="types float64, int64; load it with one dtype"):
                check("ada", made["ada"].skeleton, mixed)

    def test_weights_in_a_library_s_own_layout_are_not_packed(self) -> None:
        """They cannot be read as a tensor."""
        from harness.sessions.core.model import Model

        donor = tiny_donor("cyd")
        for part in (donor.model, donor.lm_head):
            _float(part)
        with pytest.raises(UsageError, match="load the model with packed=False"):
            pack_model("cyd", Model.from_transformers("cyd", donor, packed=True).weights)


def _float(part: Any) -> None:
    for name, value in vars(part).items():
        if isinstance(value, torch.Tensor):
            setattr(part, name, value.float())
        for one in value if isinstance(value, list) else [value]:
            if hasattr(one, "__dict__") and not isinstance(one, torch.Tensor):
                _float(one)
