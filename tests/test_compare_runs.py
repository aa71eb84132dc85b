"""What a comparison says of two runs: what differs around them, their claims, and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.compare import compare
from reports.comparing.lines import text_of
from reports.comparing.rows import Row
from reports.errors import JournalError
from reports.records import Round
from reports.runs import Run
from tests.compared import ABOUT, row, run_of, timed
from tests.synthetic_runs import METRICS, record, write_run
from tests.synthetic_runs import verdict as stored_verdict

# what differs around


def test_two_machines_have_no_verdict_on_times_and_one_on_counts() -> None:
    slow = {"plan": {**ABOUT["plan"], "machine": "other"}}
    about = {"total_s": METRICS["total_s"], "loads": replace(METRICS["total_s"], unit="loads")}
    made = [
        replace(
            timed([value] * 4),
            metrics=about,
            rounds=[
                Round(order="CT", treatment={"total_s": value + i / 99, "loads": value}) for i in range(4)
            ],
        )
        for value in (1.0, 2.0)
    ]
    found = compare(run_of(made[0]), run_of(made[1], about=slow))
    assert found.surroundings.machine == ["machine: vm, 2 CPUs → other"]
    assert (row(found, "total_s").word, row(found, "total_s").why) == (
        "not compared",
        "the machine, profile or lanes differ",
    )
    assert row(found, "loads").word == "regressed"


def test_rounds_on_one_core_and_on_all_of_them_have_no_verdict_on_times() -> None:
    """Lanes share a machine out, so that one has less of it."""
    laned = {"plan": {**ABOUT["plan"], "settings": {**ABOUT["plan"]["settings"], "lanes": "cpu:1"}}}
    found = compare(run_of(timed([1.0] * 4)), run_of(timed([1.3, 1.31, 1.3, 1.32]), about=laned))
    assert found.surroundings.settings == ["settings.lanes: None → cpu:1"]
    assert row(found, "total_s").word == "not compared"


def test_files_of_pytest_benchmark_are_of_the_machine_that_they_note() -> None:
    """When it ran is no difference; on what it ran is."""
    made = [timed([value + i / 99 for i in range(4)]) for value in (1.0, 2.0)]
    vm = {
        "node": "vm",
        "machine": "x86_64",
        "python_version": "3.11.7",
        "cpu": {"count": 2, "brand_raw": "A"},
    }
    other = {**vm, "cpu": {"count": 8, "brand_raw": "B"}}
    runs = [
        run_of(one, about={"started": str(i), "commit": None, "machine_info": info})
        for i, (one, info) in enumerate(zip((*made, made[1]), (vm, vm, other), strict=True))
    ]
    same, apart = compare(runs[0], runs[1]), compare(runs[0], runs[2])
    assert not same.surroundings.machine + same.surroundings.settings
    assert row(same, "total_s").word == "regressed"
    assert apart.surroundings.machine == ["machine: vm, x86_64, 2 CPUs, A → vm, x86_64, 8 CPUs, B"]
    assert row(apart, "total_s").word == "not compared"


@pytest.mark.parametrize("info", [{}, [], {"node": "vm", "cpu": "?"}])
def test_what_a_file_does_not_note_is_said(info: object) -> None:
    """Bare journals, and notes that are damaged."""
    run = run_of(timed([1.0] * 4), about={"machine_info": info})
    is_told = bool(info)
    found = compare(run, run)
    assert found.surroundings.is_machine_told == is_told
    assert ("Neither run says on which machine" in text_of(found)) != is_told


def test_a_test_whose_settings_differ_is_named_and_not_compared() -> None:
    before, after = record("cascade", num_graded=5), record("cascade", num_graded=5)
    after.settings["max_tokens"] = {**after.settings["max_tokens"], "code": 90}
    found = compare(run_of(before), run_of(after))
    assert [line.partition(": ")[2] for line in found.unlike] == ["max_tokens.code: 150 → 90"]
    assert not found.metrics


def test_rounds_and_calibrations_are_no_settings() -> None:
    """How often something is measured, and what was measured before, may differ."""
    before, after = (
        record("cascade", num_graded=5, num_rounds=n, settings={"rounds": n, "slo_s": n / 10}) for n in (4, 6)
    )
    assert not compare(run_of(before), run_of(after)).unlike


def test_a_renamed_test_is_named() -> None:
    """A comparison by name alone would pass it in silence."""
    found = compare(run_of(record("cascade")), run_of(record("hybrid")))
    assert found.surroundings.tests == [
        "only in the first: bench/t.py::t[cascade]",
        "only in the second: bench/t.py::t[hybrid]",
    ]
    assert found.surroundings.lost == ["bench/t.py::t[cascade]"]
    assert found.is_worse


def test_an_experiment_that_was_not_asked_for_is_no_loss() -> None:
    """One line names it, however many tests it has."""
    other = replace(record("hybrid"), experiment="decode")
    found = compare(run_of(record("cascade"), other, replace(other, variant="x")), run_of(record("cascade")))
    assert found.surroundings.tests == ["only in the first: experiment decode, 2 tests"]
    assert not found.is_worse


def test_a_test_that_ended_otherwise_is_named() -> None:
    run = run_of(record("cascade"))
    failed = replace(run, entries=(replace(run.entries[0], outcome="failed", why="OOM"),))
    assert compare(run, failed).surroundings.tests == ["bench/t.py::t[cascade]: passed → failed (OOM)"]
    assert compare(run, failed).is_worse
    assert not compare(failed, run).is_worse


# claims


def judged(word: str, estimate: float, half: float, **changes: Any) -> dict[str, Any]:
    ends = [estimate - half, estimate + half]
    told = {"estimate": estimate, "interval": ends, "n": 10, "method": "t on rounds", "quantity": "ratio"}
    return stored_verdict("faster", word, **{**told, "treatment": "cascade", "published": 2.0, **changes})


def claim_row(before: dict[str, Any], after: dict[str, Any]) -> Row:
    runs = [run_of(record("cascade", num_graded=5), verdicts=(v,)) for v in (before, after)]
    (found,) = compare(*runs).claims
    return found


def test_a_claim_shows_both_words_and_the_difference_of_its_number() -> None:
    found = claim_row(judged("confirmed", 3.0, 0.1), judged("refuted", 1.5, 0.1))
    assert found.words == ("confirmed", "refuted")
    assert found.word == "regressed"
    assert found.change == pytest.approx(-0.5)
    assert found.interval is not None
    assert found.interval[0] < -0.5 < found.interval[1] < -0.4


def test_a_reduction_that_shrinks_is_a_regression() -> None:
    """30 % less becomes 10 % less: 20 points less."""
    ways = {"quantity": "reduction", "published": 0.25}
    found = claim_row(judged("confirmed", 0.3, 0.01, **ways), judged("refuted", 0.1, 0.01, **ways))
    assert found.word == "regressed"
    assert found.change == pytest.approx(-0.2)
    assert found.interval == pytest.approx((-0.2 - 0.0130, -0.2 + 0.0130), abs=0.001)


def test_a_claim_at_most_is_better_lower() -> None:
    ways = {"form": "at_most"}
    assert (
        claim_row(judged("refuted", 3.0, 0.1, **ways), judged("confirmed", 1.5, 0.1, **ways)).word
        == "improved"
    )


@pytest.mark.parametrize(
    ("metric", "quantity", "word"),
    [
        ("solved", "difference", "regressed"),
        ("total_s", "difference", "improved"),
        ("total_s", "reduction", "regressed"),
        ("unknown", "difference", "changed"),
    ],
)
def test_no_worse_than_is_better_where_its_metric_is(metric: str, quantity: str, word: str) -> None:
    """20 points fewer solved are worse; as much less of a time is better, and of a saving worse."""
    ways = {"form": "no_worse_than", "quantity": quantity, "metric": metric, "unit": "points"}
    before, after = (judged("confirmed", value, 0.01, **ways) for value in (0.1, -0.1))
    assert claim_row(before, after).word == word


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("confirmed", "refuted"), "regressed"),
        (("refuted", "confirmed"), "improved"),
        (("confirmed", "inconclusive"), "inconclusive"),
        (("confirmed", "confirmed"), "changed"),
    ],
)
def test_an_exact_claim_is_compared_by_its_words(words: tuple[str, str], word: str) -> None:
    """It has no interval of t; its number is told all the same."""
    before, after = (judged(w, 7.0 + i, 0.0, form="exact", quantity="value") for i, w in enumerate(words))
    assert claim_row(before, after).word == word


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("confirmed", "invalid"), "regressed"),
        (("confirmed", "error"), "regressed"),
        (("invalid", "confirmed"), "improved"),
        (("invalid", "invalid"), "not compared"),
        (("refuted", "impossible"), "changed"),
    ],
)
@pytest.mark.parametrize("after", [3.0, 3.3])
def test_a_claim_whose_evidence_broke_is_compared_by_its_words(
    words: tuple[str, str], word: str, after: float
) -> None:
    """Whatever its number: it tells nothing of what is claimed."""
    assert claim_row(judged(words[0], 3.0, 0.1), judged(words[1], after, 0.1)).word == word


def test_a_claim_of_an_own_time_holds_the_drift() -> None:
    """10 % slower in one session each is not told, whatever the claim's own interval says."""
    ways = {"quantity": "value", "metric": "total_s", "unit": "s", "form": "at_most"}
    assert claim_row(judged("confirmed", 1.0, 0.01, **ways), judged("confirmed", 1.1, 0.01, **ways)).word == (
        "inconclusive"
    )


@pytest.mark.parametrize("side", ["treatment", "against"])
def test_a_claim_whose_test_measured_something_else_is_not_compared(side: str) -> None:
    """Neither where its treatment did, nor where the variant did that it is set against."""
    other = record("hybrid", num_graded=5)
    ways = {"treatment": "cascade", side: "hybrid"}
    runs = [
        run_of(
            record("cascade", num_graded=5),
            replace(other, settings={**other.settings, "link_bps": bps}),
            verdicts=(judged("confirmed", estimate, 0.1, **ways),),
        )
        for bps, estimate in ((1, 3.0), (2, 1.5))
    ]
    (found,) = compare(*runs).claims
    assert (found.word, found.why) == ("not compared", "its test measured something else")


def test_a_changed_claim_is_not_compared() -> None:
    found = claim_row(judged("confirmed", 3.0, 0.1), judged("refuted", 1.5, 0.1, version=2))
    assert (found.word, found.why) == ("not compared", "the claim was changed, version 1 → 2")


def test_verdicts_that_tell_little_are_compared_by_what_they_tell(tmp_path: Path) -> None:
    """As an older run left them; one whose number is none is an error that names it."""
    old = judged("confirmed", 3.0, 0.1)
    bare = {key: old[key] for key in ("id", "verdict", "experiment")}
    found = claim_row({**bare, "version": old.get("version")}, old)
    assert (found.word, found.why) == ("inconclusive", "one of the runs has no interval")
    folder = write_run(tmp_path / "a", [record("cascade")], [{**old, "n": "six"}])
    with pytest.raises(JournalError, match=r"n of claim 'faster' is 'six'"):
        Run.read(folder)


def test_a_claim_that_is_gone_is_named() -> None:
    runs = [run_of(record("cascade"), verdicts=v) for v in ((judged("confirmed", 3.0, 0.1),), ())]
    (found,) = compare(*runs).claims
    assert (found.words, found.why) == (("confirmed", "–"), "only the first run judged it")


# the command line


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """A run, and one whose cascade takes half as long again."""
    made = record("cascade", num_rounds=12, num_graded=20)
    slow = [
        replace(r, treatment={k: (v or 0) * 1.5 for k, v in (r.treatment or {}).items()}) for r in made.rounds
    ]
    before = write_run(tmp_path / "a", [made], [judged("confirmed", 3.0, 0.1)])
    after = write_run(tmp_path / "b", [replace(made, rounds=slow)], [judged("refuted", 1.5, 0.1)])
    return str(before), str(after)


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_the_command_names_the_regression_and_its_interval(
    folders: tuple[str, str],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In no more columns than there are."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["compare", *folders]) == 0
    out = capsys.readouterr().out
    assert "confirmed → refuted" in out
    assert "regressed" in out
    assert max(map(len, out.splitlines())) <= min(columns, 100)
    total = out[out.index("cascade]") :]
    assert "+50.0 %" in total


def test_a_regression_fails_when_asked_to(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *folders, "--fail-on", "regressed"]) == 1
    assert " regressed, 0 lost or failing" in capsys.readouterr().out
    assert main(["compare", folders[0], folders[0], "--fail-on", "regressed"]) == 0
    assert "regressed" not in capsys.readouterr().out.split("second")[-1].split("metrics: ")[1].split("\n")[0]


def test_a_lost_test_is_named_where_it_fails_the_comparison(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing regressed, and the status is 1 all the same: the last lines say why."""
    hybrid = write_run(tmp_path / "c", [record("hybrid", num_rounds=12, num_graded=20)], [])
    assert main(["compare", folders[0], str(hybrid), "--fail-on", "regressed"]) == 1
    end = capsys.readouterr().out.splitlines()[-2:]
    assert end[0] == "fails: 0 regressed, 1 lost or failing"
    assert end[1].endswith("cascade]")


def test_the_json_holds_every_row(folders: tuple[str, str], tmp_path: Path) -> None:
    assert main(["compare", *folders, "--json", str(tmp_path / "c.json")]) == 0
    data = json.loads((tmp_path / "c.json").read_text())
    assert {r["word"] for r in data["claims"]} == {"regressed"}
    assert sum(data["counts"].values()) == len(data["metrics"]) + len(data["claims"])


def test_whatever_cannot_be_read_is_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "journal.jsonl").write_text("hello\nworld\n")
    assert main(["compare", str(tmp_path), "nowhere"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {tmp_path}")
    assert lines[1].startswith("error: nowhere")


@pytest.mark.parametrize("text", ["5", "-1%", "x", "nan", "100%"])
def test_a_margin_is_a_share(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "a", "b", f"--margin={text}"])
    assert "write 5% or 0.05" in capsys.readouterr().err
