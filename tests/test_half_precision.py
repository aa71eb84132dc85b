"""In half precision answers part where others are computed beside them; what computes something else parts at
once.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("msgspec")

from fixtures import agents_checks, switching_checks  # noqa: E402
from fixtures.agents_values import Round, Taken  # noqa: E402
from fixtures.decode_variants import Chosen  # noqa: E402
from fixtures.decode_weights import MAX_LOGITS_APART  # noqa: E402
from fixtures.decode_weights import apart as logits_apart  # noqa: E402
from fixtures.provenance import agree_mostly, agreement  # noqa: E402
from harness.agents.base import Phase, Step  # noqa: E402
from harness.hardware import DeviceBudget  # noqa: E402
from harness.models.shapes import shape_of  # noqa: E402
from harness.models.torch_engine.random_weights import config_of  # noqa: E402
from harness.sessions.core import Engine, Model  # noqa: E402
from harness.sessions.modes.native import Native  # noqa: E402
from harness.sessions.modes.transformers import Generate  # noqa: E402

LONG = tuple(range(100, 120))
LATE = (*LONG[:15], *range(5))
"""Parts from it at its sixteenth token."""
WRONG = (LONG[0], *range(19))
"""Right at first, which is the prompt's, and wrong from its first own step on."""


def test_only_tokens_after_the_same_text_are_compared() -> None:
    """One that differs ends it; what comes behind says nothing."""
    assert agreement([(LONG, LONG)]) == 1.0
    assert agreement([(LATE, LONG)]) == 15 / 16
    assert agreement([(WRONG, LONG), (LONG, LONG)]) == 21 / 22
    assert agreement([((), LONG)]) is None


def a_round(reason: tuple[int, ...], reflect: tuple[int, ...]) -> Round:
    return Round(
        [
            Taken(0, phase, 0.0, Step(token_ids=ids, asked_s=0, first_token_s=1, done_s=1), 1)
            for phase, ids in zip(Phase, (reason, reflect), strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("reason", "reflect", "ok"),
    [
        (LONG, LONG, True),
        (LONG, LATE, True),
        (LATE, WRONG, True),  # of another history than the reference's
        (LONG, WRONG, False),  # one token of 22, and the only answer of its step
        (WRONG, WRONG, False),
        (LONG[:19], LONG, False),  # another length
    ],
)
def test_agents_in_half_precision_may_part_late(
    reason: tuple[int, ...], reflect: tuple[int, ...], ok: bool
) -> None:
    """And where what was reasoned differs already, nothing is expected of what is reflected."""
    expected = {(0, Phase.REASON): LONG, (0, Phase.REFLECT): LONG}
    found = agents_checks.equal_tokens({"shared": [(a_round(reason, reflect), expected)]}, is_half=True)
    assert found.ok is ok, found.observed
    assert ("nothing to compare of shared reflect" in found.observed) is (reason != LONG)
    exact = agents_checks.equal_tokens({"shared": [(a_round(reason, reflect), expected)]})
    assert exact.ok is (reason == reflect == LONG)


@pytest.mark.parametrize(
    ("answers", "ok"),
    [
        ({"shared": WRONG, "shared-recompute": LONG}, False),
        ({"shared": LATE, "shared-recompute": LONG}, True),
        ({"treatment": WRONG, "control": LONG}, False),
        ({"treatment": LONG, "control": WRONG}, False),
        ({"shared-recompute": LONG}, True),
    ],
)
def test_a_wrong_arm_is_not_hidden_by_a_right_one(answers: dict[str, tuple[int, ...]], ok: bool) -> None:
    """The reference itself least of all, which gives what was learned from it."""
    expected = {(0, Phase.REASON): LONG, (0, Phase.REFLECT): LONG}
    arms = {name: [(a_round(given, given), expected)] for name, given in answers.items()}
    assert agents_checks.equal_tokens(arms, is_half=True).ok is ok


def test_the_arm_that_the_tokens_were_learned_from_does_not_count() -> None:
    """It is as it is; what is told is of the others."""
    expected = {(0, Phase.REASON): LONG, (0, Phase.REFLECT): LONG}
    arms = {name: [(a_round(LONG, LONG), expected)] for name in ("shared-recompute", "shared")}
    found = agents_checks.equal_tokens(arms, is_half=True)
    assert found.ok
    assert "(shared reason)" in found.observed


def test_wrong_answers_are_not_hidden_by_right_ones_of_their_arm() -> None:
    """A wrong one is a token, a right one twenty: two in three wrong are still nine tokens in ten."""
    pairs = [(WRONG, LONG), (WRONG, LONG), (LONG, LONG)]
    assert agreement(pairs) > 0.8
    assert agree_mostly({"shared": pairs}) == (
        False,
        "after the same text 91.7% of tokens at least were the same (shared); "
        "most answers parted of shared at token 2",
    )
    assert agree_mostly({"shared": [(WRONG, LONG), (LONG, LONG)]})[0]
    assert not agree_mostly({"shared": [((9, 9), (8, 9))]})[0]
    assert agree_mostly({"shared": []}) == (False, "nothing to compare of shared")


def test_an_arm_that_gave_nothing_has_not_agreed() -> None:
    """Beside one that gave everything."""
    expected = {(0, Phase.REASON): LONG, (0, Phase.REFLECT): LONG}
    arms = {"treatment": [(a_round(LONG, LONG), expected)], "control": [(Round([]), expected)]}
    assert not agents_checks.equal_tokens(arms, is_half=True).ok


def test_a_servers_batches_in_half_precision_may_part_late() -> None:
    """Every request is answered all the same, and at its length."""

    def ok(asked: int, *pairs: tuple[tuple[int, ...], tuple[int, ...]], is_half: bool = True) -> bool:
        return switching_checks.answered({"concurrent": pairs}, asked, is_half=is_half).ok

    assert ok(1, (LATE, LONG))
    assert not ok(1, (LATE, LONG), is_half=False)
    assert ok(1, (LONG, LONG), is_half=False)
    assert not ok(2, (LONG, LONG))
    assert not ok(1, (WRONG, LONG))
    assert not ok(1, (LONG, ()))


def test_wrong_clients_are_not_hidden_by_right_ones_in_turn() -> None:
    """Each side is held to it."""
    for concurrent, right in ((WRONG, False), (LATE, True)):
        sides = {"concurrent": [(concurrent, LONG)], "sequential": [(LONG, LONG)] * 9}
        assert switching_checks.answered(sides, 10, is_half=True).ok is right


def test_half_precision_goes_by_the_type_of_the_weights() -> None:
    """On a processor as well."""
    assert [Chosen(dtype=one).is_half for one in ("float32", "float16", "bfloat16")] == [False, True, True]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_two_libraries_logits_lie_as_far_apart_as_their_type_rounds(dtype: str) -> None:
    """Over as many layers as a model of 7 B has; other weights lie farther apart than any rounding."""
    kind, most, apart = getattr(torch, dtype), MAX_LOGITS_APART[dtype], []
    prompt = list(range(3, 40))
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = config_of(shape_of("tiny-llama"))
        config.num_hidden_layers = 32
        donor = transformers.AutoModelForCausalLM.from_config(config).to(kind).eval()
        theirs = Generate(donor)
        if not apart:
            budget = DeviceBudget.create(10**9)
            with Engine(Model.from_transformers("deep", donor, packed=False), budget) as engine:
                ours = Native(engine).logits(prompt)
            budget.remove()
        apart.append(logits_apart(theirs.logits(prompt), ours))
    assert apart[0] <= most < apart[1] / 4
