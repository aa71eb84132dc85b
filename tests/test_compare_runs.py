"""What a comparison says of what differs around two runs, and its command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.compare import compare
from reports.comparing.lines import text_of
from reports.records import Round
from reports.runs import Run
from tests.compared import ABOUT, judged, row, run_of, timed
from tests.synthetic_runs import METRICS, record, write_run

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


def test_a_test_that_another_lane_or_node_measured_is_named() -> None:
    """Devices of one kind are not equally fast; a node's number is another whenever Ray is started."""
    run = run_of(timed([1.0] * 4))

    def at(*where: str | None) -> Run:
        return replace(run, entries=(replace(run.entries[0], where=where),))

    found = compare(at("gpu 0"), at("gpu 1", None, "gpu 0"))
    assert found.surroundings.places == ["bench/t.py::t[cascade]: gpu 0 → gpu 0, gpu 1"]
    assert "measured on another lane or node (1):" in text_of(found)
    assert found.to_json()["differences"]["places"] == found.surroundings.places
    for same in (compare(at("gpu1/3f2a"), at("gpu1/9c1e")), compare(at(), at("gpu 1"))):
        assert not same.surroundings.places
    assert compare(at("gpu1/3f2a"), at("gpu2/3f2a")).surroundings.places


def test_of_tests_that_others_measured_three_are_named_and_the_rest_counted() -> None:
    """With lanes it is most of a run: a list of them all would hide what follows it."""
    run = run_of(*(replace(timed([1.0] * 4), variant=f"v{i}") for i in range(20)))

    def at(where: str) -> Run:
        return replace(run, entries=tuple(replace(entry, where=(where,)) for entry in run.entries))

    found = compare(at("gpu 0"), at("gpu 1"))
    told = text_of(found).splitlines()
    start = told.index("measured on another lane or node (20):")
    assert [line.strip() for line in told[start + 1 : start + 5]] == [
        *(f"bench/t.py::t[v{i}]: gpu 0 → gpu 1" for i in range(3)),
        "and 17 more (--all tells all)",
    ]
    assert text_of(found, is_whole=True).count(": gpu 0 → gpu 1") == 20


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
