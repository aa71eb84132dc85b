"""Layouts, the arena's map and the places of homes: nothing overlaps, and what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BudgetError, ModelError, UsageError
from harness.residency import policies as p
from harness.residency.arena_map import ArenaMap, Run
from harness.residency.homes import expected_bytes, find_homes, home_at
from harness.residency.layout import ALIGNMENT_BYTES, ModelLayout
from tests.residency_cases import UNIT, cases, families, layout, layouts_of


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_chunks_lie_side_by_side_on_aligned_boundaries(sizes: list[int]) -> None:
    """A range of chunks is one stretch of the blob, whose every chunk can be viewed."""
    one = ModelLayout.packed("m", [(str(i), size) for i, size in enumerate(sizes)])
    assert all(chunk.offset_bytes % ALIGNMENT_BYTES == 0 for chunk in one.chunks)
    assert [one.span_bytes(i, i + 1) for i in range(one.num_chunks)] == [c.num_bytes for c in one.chunks]
    assert one.num_bytes == sum(chunk.num_bytes for chunk in one.chunks) >= sum(sizes)


def test_a_model_is_embedding_layers_and_head() -> None:
    """In the order of a forward pass; a tied head is left out."""
    one = ModelLayout.of_layers("m", 2, 1000, embed_bytes=100, head_bytes=100)
    assert [chunk.name for chunk in one.chunks] == ["embed", "layer.0", "layer.1", "head"]
    assert [c.name for c in ModelLayout.of_layers("m", 1, 100).chunks] == ["layer.0"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelLayout.packed("m", []), "m: no chunks; give at least one"),
        (lambda: ModelLayout.packed("m", [("a", 0)]), "m: chunk a has 0 bytes at 0"),
        (lambda: ModelLayout.of_layers("m", 4, 10, embed_bytes=8), "m: 2 bytes for 4 layers"),
        (lambda: ModelLayout.of_layers("m", 0, 10), "m: 10 bytes for 0 layers"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(make: object, message: str) -> None:
    """The message names model, chunk and value."""
    with pytest.raises(ModelError, match=message):
        make()  # type: ignore[operator]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_map_refuses_what_would_overlap_and_is_unchanged(data: st.DataObject) -> None:
    """Any order of placing, evicting and clearing keeps live chunks apart and inside."""
    layouts = layouts_of([2, 1, 3], [1, 1], [4])
    arena = ArenaMap(layouts, 8 * UNIT)
    for _ in range(data.draw(st.integers(1, 15))):
        model = data.draw(st.sampled_from(sorted(layouts)))
        first = data.draw(st.integers(0, layouts[model].num_chunks - 1))
        last = data.draw(st.integers(first + 1, layouts[model].num_chunks))
        at = data.draw(st.integers(-1, 9)) * UNIT
        end = at + layouts[model].span_bytes(first, last)
        before = arena.live
        doing = data.draw(st.sampled_from(["place", "clear", "evict"]))
        if doing == "clear":
            gone = arena.clear(at, end)
            assert gone == [one for one in before if one.start < end and at < one.end]
        elif doing == "evict":
            arena.evict(model, first, last)
            assert arena.live == tuple(
                one for one in before if one.model != model or not first <= one.chunk < last
            )
        else:
            free = all(one.end <= at or end <= one.start for one in before)
            absent = all(
                (one.model, one.chunk) not in [(model, c) for c in range(first, last)] for one in before
            )
            if free and absent and at >= 0 and end <= arena.capacity_bytes:
                arena.place(model, first, last, at)
            else:
                with pytest.raises(BudgetError):
                    arena.place(model, first, last, at)
                assert arena.live == before
        ends = [0, *(one.end for one in arena.live)]
        assert all(one.start >= end for one, end in zip(arena.live, ends, strict=False))
        assert arena.free_bytes == sum(hole.end - hole.start for hole in arena.holes())
        assert ends[-1] <= arena.capacity_bytes


def test_an_evicted_chunk_comes_back_unless_it_was_written_over() -> None:
    """Eviction leaves the bytes as they are."""
    arena = ArenaMap(layouts_of([1, 1, 1], [1]), 3 * UNIT)
    arena.place("m0", 0, 3, 0)
    gone = arena.evict("m0", 1)
    arena.place("m1", 0, 1, 2 * UNIT)
    assert [one.chunk for one in arena.restore(gone)] == [1]
    assert arena.missing("m0") == [Run(2, 3)]


def test_an_arena_has_a_size() -> None:
    """None of 0 bytes is made."""
    with pytest.raises(UsageError, match="arena: capacity 0 bytes"):
        ArenaMap(layouts_of([1]), 0)
    with pytest.raises(UsageError, match="arena: capacity 0 bytes"):
        find_homes(layouts_of([1]), 0)


@given(family=families())
@settings(max_examples=60, deadline=None)
def test_a_home_never_lies_on_itself(family: tuple[dict[str, ModelLayout], int]) -> None:
    """Every chunk of a model that fits has a place of its own, inside the arena."""
    layouts, capacity_bytes = family
    for model, home in find_homes(layouts, capacity_bytes).items():
        taken = [
            unit
            for at, chunk in zip(home.offsets, layouts[model].chunks, strict=True)
            for unit in range(at // UNIT, (at + chunk.num_bytes) // UNIT)
        ]
        assert len(set(taken)) == len(taken)
        assert max(taken) < capacity_bytes // UNIT
        assert {u for start, end in home.arcs for u in range(start // UNIT, end // UNIT)} == set(taken)


def test_a_home_wraps_at_a_chunks_boundary() -> None:
    """The chunk that would cross the arena's end begins anew at its start; one that meets itself is no
    home."""
    one = layout("m", 2, 2, 2)
    home = home_at(one, 3 * UNIT, 8 * UNIT)
    assert home is not None
    assert home.offsets == (3 * UNIT, 5 * UNIT, 0)
    assert home_at(one, 3 * UNIT, 6 * UNIT) is None


def test_models_that_fit_together_never_meet() -> None:
    """Then a request moves nothing in the long run."""
    layouts = layouts_of([1, 2], [3], [2, 2])
    homes = find_homes(layouts, 10 * UNIT)
    assert expected_bytes(layouts, homes, dict.fromkeys(layouts, 1.0)) == 0.0


@pytest.mark.parametrize("capacity", [14, 18, 23])
def test_the_bytes_expected_of_homes_are_those_of_a_long_run(capacity: int) -> None:
    """The formula by which places are chosen is the mean over 20,000 independent requests, within 3 %."""
    layouts = layouts_of([1] * 12, [2] * 6, [1, 2, 1])
    shares = {"m0": 0.5, "m1": 0.3, "m2": 0.2}
    policy = p.HomeSlot(layouts, capacity * UNIT, popularity=shares)
    drawn = np.random.default_rng(1).choice(3, size=20_000, p=list(shares.values()))
    moved_bytes = sum(policy.request(f"m{i}").num_bytes for i in drawn) / len(drawn)
    assert moved_bytes == pytest.approx(expected_bytes(layouts, policy.homes, shares), rel=0.03)


def test_the_popular_model_conflicts_least() -> None:
    """Whoever is most popular keeps the more of its bytes to itself."""
    layouts = layouts_of([1] * 6, [1] * 6, [1] * 6)
    homes = find_homes(layouts, 12 * UNIT, {"m0": 0.1, "m1": 0.8, "m2": 0.1})
    covered = {m: set(home.offsets) for m, home in homes.items()}
    assert not covered["m1"] & (covered["m0"] | covered["m2"])


def test_every_model_needs_a_share() -> None:
    """A popularity that leaves one out, or gives it nothing, is refused."""
    with pytest.raises(UsageError, match="popularity of m1 is None; give every model a positive share"):
        find_homes(layouts_of([1], [1]), UNIT, {"m0": 1.0})


@given(case=cases())
@settings(max_examples=30, deadline=None)
def test_a_home_is_where_a_chunk_always_is(case: tuple[dict[str, ModelLayout], int, list[str]]) -> None:
    """Parameters bound once stay bound."""
    layouts, capacity_bytes, models = case
    policy = p.HomeSlot(layouts, capacity_bytes)
    for model in models:
        policy.request(model)
        assert all(policy.homes[one.model].offsets[one.chunk] == one.start for one in policy.arena.live)


def test_places_follow_a_popularity_that_was_learned() -> None:
    """Homes made for nobody's favourite move once for m2, and a second look moves nothing."""
    layouts = layouts_of([1] * 6, [1] * 6, [1] * 6)
    policy, shares = p.HomeSlot(layouts, 12 * UNIT), {"m0": 0.1, "m1": 0.1, "m2": 0.8}
    for model in layouts:
        policy.request(model)
    before = expected_bytes(layouts, policy.homes, shares)
    moved = policy.rehome(shares)
    assert expected_bytes(layouts, policy.homes, shares) < before
    assert moved
    assert all(policy.arena.resident_bytes(model) == 0 for model in moved)
    assert policy.rehome(shares) == ()
    for model in (*layouts, "m2", "m0"):
        policy.request(model)
        assert policy.arena.is_whole(model)
        assert all(policy.homes[one.model].offsets[one.chunk] == one.start for one in policy.arena.live)
