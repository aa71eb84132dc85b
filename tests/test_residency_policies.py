"""What every residency policy promises, whatever is asked for and in whatever order copies land."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BudgetError, UsageError
from harness.residency import policies as p
from harness.residency.layout import ALIGNMENT_BYTES, ModelLayout
from harness.residency.policies import bound_bytes, whole_model_bytes
from tests.residency_cases import POLICIES, UNIT, Make, Memory, cases, families, layouts_of

Case = tuple[dict[str, ModelLayout], int, list[str]]

LOOKING = ["chunk-lru", "chunk-slots", "home-slot"]
WHOLE = ["reload-every", "keep-last", "fifo-ring", "lru", "gdsf"]

every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)


@every_policy
@given(case=cases(), random=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_a_request_never_computes_on_what_is_not_resident(make: Make, case: Case, random: Random) -> None:
    """However copies and layers interleave, each layer finds its own bytes, and no chunks overlap."""
    layouts, capacity_bytes, models = case
    policy = make(layouts, capacity_bytes, models)
    memory = Memory(policy)
    for model in models:
        plan = policy.request(model)
        memory.run(plan, random)
        for load in plan.loads:  # the rest lands, or has
            memory.write(model, load)
        memory.check_map()
        assert policy.arena.is_whole(model)
        assert [load.chunk for load in plan.loads] == sorted({load.chunk for load in plan.loads})
        assert not policy.again(model).copies


@pytest.mark.parametrize("name", LOOKING)
@given(case=cases(), random=st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_lookahead_never_touches_the_running_model_and_can_be_called_off(
    name: str, case: Case, random: Random
) -> None:
    """Copies for a guess, right or wrong, run beside the layers; what had not begun is as if never
    planned."""
    layouts, capacity_bytes, models = case
    policy = POLICIES[name](layouts, capacity_bytes, models)
    memory = Memory(policy)
    for model in models:
        guess = random.choice(sorted(layouts))
        plan = policy.request(model, upcoming=guess)
        ahead = policy.lookahead(guess, running=model)
        assert policy.arena.is_whole(model)
        num_started = memory.run(plan, random, ahead)
        policy.undo(ahead, num_started)
        memory.check_map()


@pytest.mark.parametrize("name", LOOKING)
@given(case=cases())
@settings(max_examples=20, deadline=None)
def test_a_lookahead_that_never_began_leaves_no_trace(name: str, case: Case) -> None:
    """Undone whole, it leaves the map as it was."""
    layouts, capacity_bytes, models = case
    policy = POLICIES[name](layouts, capacity_bytes, models)
    for model, following in pairwise(models):
        policy.request(model)
        before = policy.arena.live
        policy.undo(policy.lookahead(following, running=model), 0)
        assert policy.arena.live == before


@given(case=cases(), random=st.randoms(use_true_random=False), extra=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_a_model_larger_than_the_arena_streams_through_it(case: Case, random: Random, extra: int) -> None:
    """Home slots give every pass each of its layers in time, beside models that fit, and deadlock never."""
    layouts, _, models = case
    largest = max(chunk.num_bytes for one in layouts.values() for chunk in one.chunks)
    policy = p.HomeSlot(layouts, 3 * largest + extra * UNIT)
    memory = Memory(policy)
    for model in models:
        memory.run(policy.request(model), random)
        memory.check_map()
        for _ in range(2):
            plan = policy.again(model)
            assert bool(plan.copies) == (layouts[model].num_bytes > policy.arena.capacity_bytes)
            memory.run(plan, random)
            memory.check_map()


def test_streaming_keeps_the_first_chunks_and_moves_the_rest() -> None:
    """Of ten chunks in an arena of seven, four stay and six come again in every pass."""
    layouts = layouts_of([1] * 10)
    policy = p.HomeSlot(layouts, 7 * UNIT)
    assert policy.request("m0").num_bytes == 10 * UNIT
    assert [load.chunk for load in policy.again("m0").loads] == [4, 5, 6, 7, 8, 9]
    assert policy.again("m0").num_bytes == 6 * UNIT


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "home-slot"])
def test_a_model_that_cannot_fit_is_refused_with_what_it_needs(name: str) -> None:
    """Every other policy says how large the arena must be, and who would stream."""
    policy = POLICIES[name](layouts_of([2, 2], [1]), 3 * UNIT, ["m1", "m0", "m1"])
    policy.request("m1")
    with pytest.raises(
        BudgetError, match="m0: 256 bytes in an arena of 192; give the arena 256, or use home"
    ):
        policy.request("m0")
    if name != "belady":
        assert not policy.request("m1").evictions or name == "reload-every"


def test_an_arena_too_small_to_stream_is_refused() -> None:
    """Three of the largest chunks are the least."""
    with pytest.raises(BudgetError, match="m0: streaming needs 384 bytes for 3 chunks, the arena has 320"):
        p.HomeSlot(layouts_of([2, 2, 2]), 5 * UNIT)


def test_resident_refuses_what_does_not_fit_together() -> None:
    """The ceiling is no ceiling when something is evicted."""
    with pytest.raises(
        BudgetError, match="resident: the models need 256 bytes, the arena has 192; give it 256"
    ):
        p.Resident(layouts_of([2], [2]), 3 * UNIT)


@every_policy
def test_an_unknown_model_is_named(make: Make) -> None:
    """So is what there is."""
    policy = make(layouts_of([1], [1]), 2 * UNIT, ["m0"])
    with pytest.raises(UsageError, match="model 'm7': not in the arena; it has m0, m1"):
        policy.request("m7")


@every_policy
@given(case=cases())
@settings(max_examples=20, deadline=None)
def test_no_policy_moves_less_than_the_bound(make: Make, case: Case) -> None:
    """Belady's bytes over fluids are the least, cold, for every policy and with its own lookahead too."""
    layouts, capacity_bytes, models = case
    sizes = {name: one.num_bytes for name, one in layouts.items()}
    policy = make(layouts, capacity_bytes, models)
    moved_bytes = sum(policy.request(model).num_bytes for model in models)
    assert moved_bytes >= bound_bytes(models, sizes, capacity_bytes)
    if policy.can_look_ahead:
        eager = make(layouts, capacity_bytes, models)
        moved_bytes = 0
        for model, following in zip(models, [*models[1:], models[-1]], strict=True):
            moved_bytes += eager.request(model, upcoming=following).num_bytes
            moved_bytes += eager.lookahead(following, running=model).num_bytes
        assert moved_bytes >= bound_bytes(models, sizes, capacity_bytes)


@pytest.mark.parametrize("name", WHOLE)
@given(case=cases())
@settings(max_examples=20, deadline=None)
def test_no_policy_of_whole_models_moves_less_than_the_best_of_them(name: str, case: Case) -> None:
    """Dynamic programming over sets lies under each, and over the bound by bytes."""
    layouts, capacity_bytes, models = case
    sizes = {model: one.num_bytes for model, one in layouts.items()}
    policy = POLICIES[name](layouts, capacity_bytes, models)
    least_bytes = whole_model_bytes(models, sizes, capacity_bytes)
    assert sum(policy.request(model).num_bytes for model in models) >= least_bytes
    assert least_bytes >= bound_bytes(models, sizes, capacity_bytes)


@given(family=families(max_units=1), data=st.data())
@settings(max_examples=20, deadline=None)
def test_belady_is_the_best_when_chunks_are_alike(
    family: tuple[dict[str, ModelLayout], int], data: st.DataObject
) -> None:
    """With chunks of one size nothing is lost to holes: Belady's plans move the bound, byte for byte."""
    layouts, capacity_bytes = family
    models = data.draw(st.lists(st.sampled_from(sorted(layouts)), min_size=1, max_size=14))
    policy = p.Belady(layouts, capacity_bytes, future=models)
    sizes = {name: one.num_bytes for name, one in layouts.items()}
    moved_bytes = sum(policy.request(model).num_bytes for model in models)
    assert moved_bytes == bound_bytes(models, sizes, capacity_bytes)


def test_belady_refuses_another_future() -> None:
    """It is no bound for requests it was not told of."""
    policy = p.Belady(layouts_of([1], [1]), UNIT, future=["m0"])
    with pytest.raises(UsageError, match="belady: request 0 is for m1"):
        policy.request("m1")


@every_policy
@given(case=cases())
@settings(max_examples=20, deadline=None)
def test_eviction_copies_nothing_but_in_the_published_ring(make: Make, case: Case) -> None:
    """Bytes from device to host are those evicted in the seed's own arm, and 0 in every other."""
    layouts, capacity_bytes, models = case
    policy = make(layouts, capacity_bytes, models)
    for model in models:
        plan = policy.request(model)
        assert plan.copy_out_bytes == (plan.evicted_bytes if policy.name == "fifo-ring-copy-out" else 0)
        assert plan.needed_bytes <= plan.evicted_bytes


@every_policy
@given(case=cases(), share=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_lookahead_needs_the_room_of_what_it_copies(make: Make, case: Case, share: float) -> None:
    """Not of all that its model misses; and of one that is called off, no more than stays driven out."""
    layouts, capacity_bytes, models = case
    policy = make(layouts, capacity_bytes, models)
    for model, following in pairwise(models):
        policy.request(model)
        free_bytes = policy.arena.free_bytes
        plan = policy.lookahead(following, running=model)
        assert plan.needed_bytes == max(0, plan.num_bytes - free_bytes)
        num_begun = int(share * len(plan.loads))
        back_bytes = sum(placed.num_bytes for placed in policy.undo(plan, num_begun))
        assert plan.needed_for(num_begun) <= plan.evicted_bytes - back_bytes


def test_a_model_that_streams_needs_no_more_room_than_it_takes() -> None:
    """Three units go for ten that pass through seven; in its own next pass nothing does."""
    policy = p.HomeSlot(layouts_of([1] * 10, [1] * 3), 7 * UNIT)
    policy.request("m1")
    plans = [policy.request("m0"), policy.again("m0")]
    assert [plan.needed_bytes for plan in plans] == [3 * UNIT, 0]
    assert plans[0].evicted_bytes == 3 * UNIT


@every_policy
@given(case=cases())
@settings(max_examples=15, deadline=None)
def test_warming_up_evicts_nothing(make: Make, case: Case) -> None:
    """What fits is placed, in order, and what was there stays."""
    layouts, capacity_bytes, models = case
    policy = make(layouts, capacity_bytes, models)
    memory = Memory(policy)
    for plan in policy.fill(sorted(layouts)):
        assert not plan.evictions
        for load in plan.loads:
            memory.write(plan.model, load)
    memory.check_map()


@every_policy
@given(case=cases(), data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_dropped_model_comes_whole_again(make: Make, case: Case, data: st.DataObject) -> None:
    """After a copy that failed, no byte of the model is trusted."""
    layouts, capacity_bytes, models = case
    policy = make(layouts, capacity_bytes, [*models, models[-1]])
    for model in models:
        policy.request(model)
    policy.drop(models[-1])
    assert policy.arena.resident_bytes(models[-1]) == 0
    assert policy.request(models[-1]).num_bytes == layouts[models[-1]].num_bytes


def test_recency_by_whole_models_drives_out_more_than_is_needed() -> None:
    """For 13 units beside 12 and 5 in 25, 5 have to go: by layers 5 do, by models the older 12."""
    layouts = layouts_of([1] * 12, [1] * 13, [1] * 5)
    for policy, evicted in ((p.LRU(layouts, 25 * UNIT), 12), (p.ChunkLRU(layouts, 25 * UNIT), 5)):
        policy.request("m0")
        policy.request("m2")
        plan = policy.request("m1")
        assert (plan.needed_bytes, plan.evicted_bytes) == (5 * UNIT, evicted * UNIT)


def test_frequency_keeps_the_popular_model_and_recency_the_latest() -> None:
    """After m0 m0 m0 m1, a byte too many costs m1 by frequency and m0 by recency."""
    layouts = layouts_of([1] * 4, [1] * 4, [1])
    for policy, victim in (
        (p.ChunkLFU(layouts, 8 * UNIT), "m1"),
        (p.ChunkLRU(layouts, 8 * UNIT), "m0"),
        (p.GDSF(layouts, 8 * UNIT), "m1"),
        (p.LRU(layouts, 8 * UNIT), "m0"),
    ):
        for model in ("m0", "m0", "m0", "m1"):
            policy.request(model)
        assert {placed.model for placed in policy.request("m2").evictions} == {victim}


def test_a_ring_skips_its_end_and_writes_over_whoever_lies_there() -> None:
    """12, 13 and 5 units in 24: the second skips to the start over the first, the third stays."""
    policy = p.FifoRing(layouts_of([1] * 12, [1] * 13, [1] * 5), 24 * UNIT)
    policy.request("m0")
    assert policy.request("m1").copies[0].arena_offset == 0
    assert policy.request("m2").copies[0].arena_offset == 13 * UNIT
    plan = policy.request("m0")
    assert plan.copies[0].arena_offset == 0
    assert {placed.model for placed in plan.evictions} == {"m1"}
    assert policy.arena.is_whole("m2")


def test_the_last_layers_give_way_first() -> None:
    """They are needed last, and arrive while the first ones run."""
    policy = p.ChunkLFU(layouts_of([1, 1, 1, 1], [1, 1]), 5 * UNIT)
    policy.request("m0")
    assert [placed.chunk for placed in policy.request("m1").evictions] == [3]
    assert [load.chunk for load in policy.request("m0").loads] == [3]


def test_copies_come_in_layer_order_wherever_there_was_room_first() -> None:
    """The last layer found a hole before the first had room; the first is copied first all the same."""
    policy = p.ChunkLRU(layouts_of([3], [1], [3, 2, 1]), 6 * UNIT)
    for model in ("m1", "m2", "m1", "m0"):
        policy.request(model)
    assert [load.chunk for load in policy.request("m2").loads] == [0, 2]


@every_policy
@given(case=cases())
@settings(max_examples=15, deadline=None)
def test_fixed_places_are_fixed(make: Make, case: Case) -> None:
    """Where parameters may be bound once, no request moves a chunk; a lookahead's plan has no places to run
    at."""
    layouts, capacity_bytes, models = case
    policy = make(layouts, capacity_bytes, models)
    seen: dict[str, tuple[int, ...]] = {}
    for model in models:
        places = policy.places(policy.request(model))
        assert not policy.has_fixed_places or seen.setdefault(model, places) == places
    absent = [model for model in layouts if not policy.arena.is_whole(model)]
    for model in absent:
        with pytest.raises(UsageError, match=f"{model}: c[0-9] is not resident; request the model first"):
            policy.places(p.Plan(model, layouts[model]))


def test_copies_are_coalesced_and_in_layer_order() -> None:
    """Neighbours in blob and arena are one copy; its loads are the layers one by one."""
    policy = p.HomeSlot(layouts_of([1, 2, 1], [1]), 6 * UNIT)
    plan = policy.request("m0")
    assert len(plan.copies) == 1
    assert [(load.chunk, load.host_offset, load.num_bytes) for load in plan.loads] == [
        (0, 0, UNIT), (1, UNIT, 2 * UNIT), (2, 3 * UNIT, UNIT),
    ]  # fmt: skip


@every_policy
@given(odd=st.integers(1, ALIGNMENT_BYTES - 1), models=st.lists(st.sampled_from("abc"), max_size=8))
@settings(max_examples=20, deadline=None)
def test_every_chunk_lies_on_a_boundary_whatever_the_arenas_size(
    make: Make, odd: int, models: list[str]
) -> None:
    """A tensor is a view of the arena: between two of its type's elements it would be of other bytes."""
    layouts = {
        name: ModelLayout.of_layers(name, 4, num * UNIT) for name, num in zip("abc", (12, 8, 4), strict=True)
    }
    policy = make(layouts, 14 * UNIT + odd, models)
    for model in models:
        places = policy.places(policy.request(model))
        assert not [at for at in places if at % ALIGNMENT_BYTES]
