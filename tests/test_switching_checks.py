"""The checks of switching can fail: by a wrong token, a changed blob, a copy-out, other hits, a slow link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fixtures import switching_checks as checks
from fixtures.switching_values import Played
from harness.residency.served import Served
from harness.switching.base import Answer, Ask, failed
from reports.records import Check
from tests.switching_answers import HIT, SIZES, answer, played

ASK = Ask(model="a", prompt_ids=(1, 2, 3), new_tokens=2)
EXPECTED = {ASK: (7, 8)}


def served(model: str = "a", **changes: Any) -> Served:
    usual: dict[str, Any] = {
        "model": model, "is_hit": False, "arrived_s": 0.0, "began_s": 0.0, "first_token_s": 3.0,
        "done_s": 4.0, "switch_s": 2.0, "bytes_in": SIZES[model], "ahead_bytes": 0, "bytes_out": 0,
        "evicted_bytes": 0, "needed_bytes": 0, "copied_s": None, "ahead_s": None,
    }  # fmt: skip
    return Served(**{**usual, **changes})


def test_a_token_that_differs_is_found() -> None:
    """So is a request without tokens, one that is not expected, and an arm that was asked nothing."""
    good, wrong = played(answer()), played(answer(token_ids=(7, 9)))
    assert checks.equal_tokens({"x": [good], "y": [good]}, EXPECTED).ok
    found = checks.equal_tokens({"x": [good], "y": [wrong]}, EXPECTED)
    assert not found.ok
    assert "1 of 2" in found.observed
    assert "[7, 9], not [7, 8]" in found.observed
    assert not checks.equal_tokens({"x": [played(answer(token_ids=()))]}, EXPECTED).ok
    assert not checks.equal_tokens({"x": [good]}, {}).ok
    assert not checks.equal_tokens({"x": []}, EXPECTED).ok


def test_the_same_prompt_has_the_same_tokens() -> None:
    """In another round or arm too."""
    good, other = played(answer()), played(answer(token_ids=(7, 9)))
    assert checks.greedy_deterministic({"x": [good, good]}).ok
    assert not checks.greedy_deterministic({"x": [good], "y": [other]}).ok


def test_a_request_that_is_cut_short_or_failed_is_not_completed() -> None:
    """Nor is a round that was planned and is missing."""
    good = played(answer())
    assert checks.all_completed([good], 1).ok
    assert not checks.all_completed([good], 2).ok
    assert not checks.all_completed([played(answer(token_ids=(7,)))], 1).ok
    assert not checks.all_completed([played(failed(ASK, 0.0, "no room"))], 1).ok
    assert not checks.all_completed([], 0).ok


def test_a_blob_that_changed_is_found() -> None:
    """Or that nobody can show."""
    sums = {"a": "1", "packed:a": "1", "b": "2", "packed:b": "2"}
    assert checks.blobs_unchanged(sums, ["a", "b"]).ok
    found = checks.blobs_unchanged({**sums, "b": "3"}, ["a", "b"])
    assert not found.ok
    assert "not b" in found.observed
    assert not checks.blobs_unchanged({}, ["a"]).ok


def test_a_copy_out_that_should_not_be_is_found() -> None:
    """And the arm that copies out has to copy all that it evicts."""
    none, some = played(answer()), played(answer(bytes_out=64, evicted_bytes=64))
    assert checks.nothing_copied_out([none]).ok
    assert not checks.nothing_copied_out([none, some]).ok
    assert not checks.nothing_copied_out([played(answer(bytes_out=None))]).ok
    assert checks.copied_out([some]).ok
    assert checks.copied_out([none]).ok  # all models fit: --buffer-gb 40
    assert not checks.copied_out([played(answer(bytes_out=0, evicted_bytes=64))]).ok
    assert not checks.copied_out([played(answer(bytes_out=64, evicted_bytes=128))]).ok
    assert not checks.copied_out([played(answer(bytes_out=None, evicted_bytes=None))]).ok


def test_arms_that_share_a_process_are_found() -> None:
    """With each other, or with the driver."""
    assert checks.own_process({"x": {1, 2}, "y": {3}}, 9).ok
    assert not checks.own_process({"x": {1}, "y": {1}}, 9).ok
    assert not checks.own_process({"x": {9}, "y": {1}}, 9).ok
    assert not checks.own_process({"x": set(), "y": {1}}, 9).ok


def test_arms_that_were_asked_different_things_are_found() -> None:
    """Another model, another prompt, a round that one of them lacks."""
    one, other = played(answer()), played(answer("b"))
    assert checks.same_trace([one], [one]).ok
    assert not checks.same_trace([one], [other]).ok
    assert not checks.same_trace([one], []).ok
    prompts = played(answer(), asks=[Ask(model="a", prompt_ids=(9,), new_tokens=2)])
    assert not checks.same_trace([one], [prompts]).ok


@pytest.mark.parametrize(
    ("theirs", "hits", "alike"),
    [
        (served(), True, True),
        (served(bytes_in=0, is_hit=True), False, False),
        (served(bytes_in=64), True, False),
    ],
)
def test_hits_and_bytes_that_differ_from_the_simulators_are_found(
    theirs: Served, hits: bool, alike: bool
) -> None:
    """Request by request."""
    found = {check.name: check.ok for check in checks.as_simulated([played(answer(), simulated=[theirs])])}
    assert found == {"hits_as_simulated": hits, "bytes_as_simulated": alike}


def test_a_request_that_the_simulator_did_not_serve_is_no_agreement() -> None:
    """Neither is a round without a simulation."""
    assert not any(
        check.ok for check in checks.as_simulated([played(answer(), answer(), simulated=[served()])])
    )
    assert not any(check.ok for check in checks.as_simulated([played(answer())]))


def link(*spans_s: float) -> Check:
    """640 bytes in so many seconds each, over a link of 320 bytes per second."""
    answers = [answer(copied_s=(10.0, 10.0 + took_s)) for took_s in spans_s]
    return checks.link_as_declared([played(*answers)], 320.0)


def test_a_link_that_is_not_as_declared_is_found() -> None:
    """Faster or slower; one that was late once is as declared."""
    assert link(2.0, 2.0).ok
    assert link(2.0, 2.9).ok
    assert not link(2.2, 2.3).ok
    assert not link(2.0, 1.8).ok


def test_both_directions_cross_the_link() -> None:
    """What was copied out before is in the time, so it is in the bytes."""
    both = played(answer(bytes_out=320, evicted_bytes=320, copied_s=(10.0, 13.0)))
    assert checks.link_as_declared([both], 320.0).ok
    assert not checks.link_as_declared([played(answer(copied_s=(10.0, 13.0)))], 320.0).ok


def test_where_nothing_crossed_no_byte_may_be_counted() -> None:
    """A copy without a time is none."""
    assert checks.link_as_declared([played(answer(**HIT))], 320.0).ok
    assert not checks.link_as_declared([played(answer(copied_s=None))], 320.0).ok
    assert not checks.link_as_declared([], 320.0).ok


def test_an_arm_that_reloads_copies_its_whole_model_every_time() -> None:
    """Part of it, or none, is found."""
    part: Callable[..., Answer] = answer
    whole, less = played(answer(), answer("b")), played(answer(), part(bytes_in=64))
    landed = checks.bytes_landed_in_arena
    assert landed([whole], SIZES, reloads=True, least=[None]).ok
    assert not landed([less], SIZES, reloads=True, least=[None]).ok
    assert not landed([], SIZES, reloads=True, least=[]).ok


def test_no_arm_copies_less_than_any_policy_must() -> None:
    """What was copied ahead counts."""
    rounds: list[Played] = [played(answer(bytes_in=320, ahead_bytes=320))]
    landed = checks.bytes_landed_in_arena
    assert landed(rounds, SIZES, reloads=False, least=[640.0]).ok
    assert not landed(rounds, SIZES, reloads=False, least=[704.0]).ok
