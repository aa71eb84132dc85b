"""One request after the other through an arena: what is answered, what is counted, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.errors import ArenaError, ModelError, UsageError
from harness.residency.arms import ARMS
from harness.sessions.ring.serve import Generated, RingGenerator, greedy
from tests.tiny_ring import (
    NAMES,
    VOCAB_SIZE,
    LaneFailingFor,
    arena_over,
    bytes_of,
    continuation,
    hosts,
    tiny_model,
)

SIZES = {name: bytes_of(name) for name in NAMES}
ONE = max(SIZES.values()) + 64
ORDER = [NAMES[(number * number + number // 3) % 3] for number in range(30)]


@pytest.fixture
def generator() -> Iterator[RingGenerator]:
    """Of the default arm, with a lane that can be broken."""
    with hosts() as made, arena_over(made, ONE, lane=LaneFailingFor(ONE)) as arena:
        yield RingGenerator.over(arena, made)


def served(arm_name: str, capacity: int) -> list[Generated]:
    """Requests in turns, each for four tokens."""
    looks_ahead = ARMS[arm_name].lookahead
    with hosts() as made, arena_over(made, capacity, arm_name=arm_name, future=ORDER) as arena:
        generator = RingGenerator.over(arena, made)
        found = []
        for number, name in enumerate(ORDER):
            following = ORDER[number + 1] if number + 1 < len(ORDER) else None
            prompt = [number, 3, 1]
            one = generator.generate(name, prompt, 4, upcoming=following if looks_ahead else None)
            assert list(one.token_ids) == continuation(name, prompt, 4), (arm_name, number)
            found.append(one)
        return found


@pytest.mark.parametrize("arm_name", ARMS)
def test_every_arm_answers_what_the_resident_reference_does(arm_name: str) -> None:
    """And says of each request what it took."""
    for name, one in zip(ORDER, served(arm_name, ONE), strict=True):
        stats = one.stats
        assert one.began_s < one.first_token_s < one.done_s
        assert one.bind_s >= 0
        assert stats.bytes_in <= SIZES[name]
        assert stats.is_hit <= (stats.bytes_in == 0)
        assert (stats.bytes_out > 0) <= (arm_name == "fifo-ring-copy-out")


def test_without_keeping_every_request_copies_all_of_its_model() -> None:
    """And with room for all, only each model's first."""
    reloaded, resident = served("reload-every", ONE), served("resident", ONE)
    assert [one.stats.bytes_in for one in reloaded] == [SIZES[name] for name in ORDER]
    firsts = {ORDER.index(name) for name in NAMES}
    assert [number for number, one in enumerate(resident) if not one.stats.is_hit] == sorted(firsts)


@pytest.mark.parametrize("kind", [{"is_tied": True}, {"has_biases": True}], ids=["tied", "biases"])
@pytest.mark.parametrize("room", [64, -64], ids=["fits", "streams"])
def test_models_with_biases_or_a_tied_head_answer_alike(kind: dict[str, bool], room: int) -> None:
    """Also where the largest streams through the arena in every pass."""
    capacity = bytes_of("ada", **kind) + room
    with hosts(**kind) as made, arena_over(made, capacity) as arena:
        generator = RingGenerator.over(arena, made)
        for number, name in enumerate(ORDER[:9]):
            prompt = [number, 5]
            expected = greedy(tiny_model(name, **kind), prompt, 4)
            assert generator.generate(name, prompt, 4).token_ids == expected


@pytest.mark.parametrize("kills", [False, True], ids=["a copy fails", "the copier dies"])
def test_a_request_whose_copy_fails_is_an_error_and_the_next_is_answered(
    generator: RingGenerator, kills: bool
) -> None:
    """Others meanwhile; and the model itself, when its bytes come again."""
    lane: Any = generator.arena.lane
    lane.fails, lane.kills = {"ben"}, kills
    for _ in range(2):
        assert list(generator.generate("ada", [1, 2], 3).token_ids) == continuation("ada", [1, 2], 3)
        with pytest.raises(ArenaError, match=r"ben: chunk \d"):
            generator.generate("ben", [1, 2], 3)
    lane.fails = set()
    assert list(generator.generate("ben", [1, 2], 3).token_ids) == continuation("ben", [1, 2], 3)


def test_a_guess_that_is_wrong_costs_no_answer(generator: RingGenerator) -> None:
    """The next request is another model's than was said."""
    for number in range(12):
        name, guessed = NAMES[number % 3], NAMES[number % 2]
        found = generator.generate(name, [number], 3, upcoming=guessed)
        assert list(found.token_ids) == continuation(name, [number], 3)


def test_what_makes_no_sense_is_refused(generator: RingGenerator) -> None:
    """The message has the value and what there is."""
    with pytest.raises(ModelError, match="model 'dan': not served here; use ada, ben, cyd"):
        generator.generate("dan", [1], 1)
    for prompt, num in (([], 1), ([1], 0), ([VOCAB_SIZE], 1), ([-1], 1)):
        with pytest.raises(UsageError, match=f"ids from 0 to {VOCAB_SIZE - 1}"):
            generator.generate("ada", prompt, num)
    assert list(generator.generate("ada", [1], 1).token_ids) == continuation("ada", [1], 1)
