"""The strategies' report and figure, from records alone: what they compute, recommend and leave out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from reports import figures
from reports.experiments import exports
from reports.experiments.strategies import cells_of, families_of
from reports.experiments.strategies_advice import advise, contests
from reports.experiments.strategies_tables import comparison
from reports.figures import base, front, samples, tokens
from reports.records import Check, Failure, Metric, Record, Round, TaskPair
from reports.runs import Run
from reports.tables import variants_markdown, variants_table
from tests.synthetic_runs import write_run

METRICS = {
    name: Metric(unit="x", better="lower", what=name)
    for name in ("total_s", "tokens_per_s", "tokens", "cost_usd", "oracle")
} | {"solved": Metric(unit="share", better="higher", what="solved")}


def graded(
    model: str, strategy: str, solved: str, single: str, *, tokens: float = 80.0, **more: Any
) -> Record:
    """A record of as many tasks as there are digits, half of them code, the others math."""
    is_single = strategy == "single"

    def values(digit: str, tokens: float) -> dict[str, float | None]:
        right = float(digit)
        return {"solved": right, "oracle": max(right, 0.0), "tokens": tokens, "cost_usd": 2e-6}

    tasks = [
        TaskPair(
            id=f"{'code' if i % 2 else 'math'}-{i:03d}",
            treatment=values(mine, tokens),
            control=None if is_single else values(theirs, 10.0),
        )
        for i, (mine, theirs) in enumerate(zip(solved, single, strict=True))
    ]
    rounds = [
        Round(
            order="CT" if i % 2 else "TC",
            treatment={"total_s": 4.0 + 0.1 * i, "tokens_per_s": 100.0},
            control=None if is_single else {"total_s": 1.0 + 0.01 * i},
        )
        for i in range(4)
    ]
    given: dict[str, Any] = {
        "experiment": "strategies", "variant": f"{model}-{strategy}", "backend": "llama.cpp",
        "control": None if is_single else f"{model}-single", "profile": "pocket", "complete": True,
        "models": {model: f"llama.cpp {model} f16"}, "settings": {"tasks": 4}, "metrics": METRICS,
        "tasks": tasks, "rounds": rounds,
    }  # fmt: skip
    return Record(**{**given, **more})


HALF, MOST = "01" * 40, "01" * 15 + "11" * 25
SWEEP = [
    {"name": "k", "family": family, "k": k, "tasks": 80, "oracle": 0.1 * k, "best": 0.08 * k,
     "majority": 0.05 * k, "gap": 0.02 * k, "tokens": 10.0 * k}
    for family in ("all", "code", "math") for k in (1, 2, 3)
]  # fmt: skip
RECORDS = [
    graded("nano", "single", HALF, HALF, tokens=10.0),
    graded("nano", "reread", HALF, HALF, tokens=20.0),
    graded("nano", "best-of-8", MOST, HALF, sweep=SWEEP),
    graded("nano", "diverse", MOST, HALF, tokens=30.0),
    graded("large", "single", MOST, MOST, tokens=10.0),
    graded("large", "best-of-8", MOST, MOST),
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two models."""
    return Run.read(write_run(tmp_path / "one", RECORDS))


def test_a_cell_is_paired_with_one_greedy_answer() -> None:
    """Its gain by task, its tokens by task, its time by round; the control has none of them."""
    cells = {(cell.model, cell.strategy): cell for cell in cells_of(RECORDS)}
    single, best = cells["nano", "single"], cells["nano", "best-of-8"]
    assert (single.gain, single.tokens_times, single.time_times) == (None, None, None)
    assert single.solved is not None
    assert single.solved.estimate == 0.5
    assert best.gain is not None
    assert best.gain.estimate == pytest.approx(25 / 80)
    assert best.gain.low > 0
    assert best.tokens_times is not None
    assert best.tokens_times.estimate == pytest.approx(8.0)
    assert best.time_times is not None
    assert 3.9 < best.time_times.estimate < 4.3
    assert best.cost_per_solved_usd == pytest.approx(2e-6 / (65 / 80))
    assert best.gap == 0.0
    assert families_of(RECORDS) == ("all", "math", "code")
    assert [cell.n for cell in cells_of(RECORDS, "code")] == [40] * 6
    assert all(cell.time_times is None for cell in cells_of(RECORDS, "code"))


def test_tasks_that_only_some_variants_were_graded_on_are_in_no_table() -> None:
    """They decide claims; one family over again, they would weigh a model's shares unlike another's."""
    first = graded("nano", "best-of-8", MOST, HALF)
    more = [replace(task, id=f"code-more-{number:03d}") for number, task in enumerate(first.tasks)]
    wide = replace(first, tasks=[*first.tasks, *more])
    assert families_of([wide]) == families_of([first])
    assert cells_of([wide]) == cells_of([first])
    assert comparison([wide], "nano") == comparison([first], "nano")


def test_advice_walks_up_while_the_next_is_certain_to_solve_more() -> None:
    """At a level for all strategies of a model together; of equally good ones the cheaper is taken."""
    nano, large = advise(RECORDS)
    assert (nano.model, nano.strategy, nano.n) == ("nano", "diverse", 80)
    assert nano.level == pytest.approx(1 - 0.05 / 3)
    assert nano.gain is not None
    assert nano.gain.low > 0
    assert nano.tokens_times == pytest.approx(3.0)
    assert (large.strategy, large.gain, large.tokens_times) == ("single", None, 1.0)
    assert advise([RECORDS[0]]) == []


def test_advice_says_when_it_is_not_decided_and_what_would_tell() -> None:
    """Four tasks tell nothing; 800 that all agree tell that nothing is gained."""
    [few] = advise([graded("nano", "best-of-8", "0111", "0101")])
    assert (few.strategy, few.rival) == ("single", "best-of-8")
    assert few.rival_gain is not None
    assert few.rival_gain.low < 0 < 0.05 < few.rival_gain.high
    assert few.tasks_needed is not None
    assert 4 < few.tasks_needed < 100
    same = "01" * 400
    [many] = advise([graded("nano", "best-of-8", same, same)])
    assert (many.strategy, many.rival, many.tasks_needed) == ("single", None, None)


def test_a_better_strategy_that_a_dearer_one_beats_is_a_step_on_the_way() -> None:
    """From one answer over best-of-n to best-of-8, each certain to beat the one before."""
    half, more, most = "0011" * 50, "0111" * 50, "1111" * 50
    records = [
        graded("nano", "best-of-8", most, half, tokens=80.0),
        graded("nano", "best-of-n", more, half, tokens=30.0),
        graded("nano", "reread", "0001" * 50, half, tokens=20.0),
    ]
    [one] = advise(records)
    assert (one.strategy, one.rival) == ("best-of-8", None)
    assert one.gain is not None
    assert one.gain.estimate == 0.5
    [without] = advise(records[1:])
    assert (without.strategy, without.rival) == ("best-of-n", None)


def test_a_failed_call_is_a_task_that_was_not_solved() -> None:
    """It lowers solved share and success, and is counted."""
    lost = graded("nano", "best-of-8", HALF, MOST)
    lost.tasks[0].treatment["failed"] = 1.0
    for task in lost.tasks[1:]:
        task.treatment["failed"] = 0.0
    lost.failures.append(Failure(arm="treatment", round=None, where="graded math-000", error="reset by peer"))
    [cell] = cells_of([lost])
    assert (cell.n, cell.failures) == (80, 1)
    assert cell.success == pytest.approx(79 / 80)
    assert cell.solved is not None
    assert cell.solved.estimate == 0.5


def test_a_record_that_is_not_what_its_name_says_is_told_of(tmp_path: Path) -> None:
    """In the report and beneath the table: a check that does not hold, rounds that were not run."""
    bad = graded("nano", "diverse", MOST, HALF, complete=False)
    bad.checks.append(Check(name="temperature_effect", ok=False, observed="0 of 80 questions"))
    run = Run.read(write_run(tmp_path / "one", [RECORDS[0], bad]))
    exports.write(run)
    for text in (variants_table(run), (run.path / "STRATEGIES.md").read_text(encoding="utf-8")):
        assert "diverse: temperature_effect does not hold: 0 of 80 questions" in text
        assert "diverse: not every planned round was run" in text
        assert "single: not every" not in text
    assert advise([RECORDS[0], bad]) == []
    bad.checks.clear()
    assert [one.strategy for one in advise([RECORDS[0], bad])] == ["diverse"]


@given(
    answers=st.lists(st.tuples(*[st.sampled_from("01")] * 4), min_size=1, max_size=60),
    order=st.permutations(range(4)),
)
@settings(max_examples=40, deadline=None)
def test_advice_never_solves_less_than_one_answer_and_knows_no_order(
    answers: list[tuple[str, ...]], order: list[int]
) -> None:
    """Whatever was right, and in whichever order the records stand."""
    single, *others = ("".join(column) for column in zip(*answers, strict=True))
    records = [graded("nano", "single", single, single, tokens=10.0)]
    records += [
        graded("nano", name, solved, single, tokens=20.0 + 10 * i)
        for i, (name, solved) in enumerate(zip(("best-of-n", "escalate", "best-of-8"), others, strict=True))
    ]
    [one] = advise(records)
    assert one.solved >= single.count("1") / len(single)
    assert (one.strategy == "single") == (one.gain is None)
    assert (one.rival is None) == (one.tasks_needed is None)
    assert one.tasks_needed is None or one.tasks_needed > len(single)
    assert advise([records[i] for i in order]) == [one]


def test_a_larger_model_is_compared_at_equal_tokens_task_by_task() -> None:
    """Best of eight of one against the vote of eight, and one answer, of a model that solves more alone."""
    records = [*RECORDS, graded("large", "majority-of-8", MOST, MOST, tokens=81.0)]
    [one] = contests(records)
    assert (one.model, one.larger, one.tokens, one.vote_tokens, one.single_tokens) == (
        "nano", "large", 80.0, 81.0, 10.0
    )  # fmt: skip
    assert one.over_vote is not None
    assert one.over_vote.estimate == 0
    assert one.over_vote.low < 0 < one.over_vote.high
    assert one.over_single is not None
    assert one.over_single.n == 80


def test_the_terminal_has_a_table_per_model_and_what_to_use(run: Run) -> None:
    """Within its width, the source's columns among them, and no row of a workflow."""
    text = variants_table(run, width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "strategies: nano = llama.cpp nano f16 · tasks graded: 80" in text
    heads = [line.split() for line in text.splitlines() if line.startswith("strategy ")]
    assert len(heads) == 2
    assert all({"tokens", "latency", "tok/s", "success", "solved"} <= set(head) for head in heads)
    assert "recommendation by model" in text
    assert "equal tokens" in text
    assert text.count("solved: tasks whose chosen answer") == 1
    assert "| nano | math, 40 | " in variants_markdown(run)


def test_the_report_has_the_sources_sections_and_the_numbers_as_json(run: Run) -> None:
    """Beside the figures; in the same words for whoever reads the file or the data."""
    written = {path.name: path for path in exports.write(run)}
    text = written["STRATEGIES.md"].read_text()
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        "## Summary statistics", "## Strategy comparison", "## Results by model",
        "## Analysis and recommendations", "## Detailed results",
    ]  # fmt: skip
    assert written["STRATEGIES.md"].parent == run.path
    assert "4 strategies on 2 models, 80 tasks each" in text
    assert "capability miniatures" in text
    assert "| nano | all, 80 | diverse | 81.2 | 31 [" in text
    assert "| large | all, 80 | single | 81.2 | – | 1.00× |" in text
    rows = json.loads(written["results.json"].read_text())["results"]
    assert len(rows) == len(RECORDS) * 3
    assert json.loads(text.partition("```json\n")[2].partition("```")[0]) == rows


def test_the_compute_optimal_figure_shows_models_at_equal_tokens(run: Run) -> None:
    """A panel per family, a line per rule, one greedy answer as a mark; without a pool there is no line."""
    found = tokens.data(run, "strategies")
    assert found is not None
    assert found.families == ("all", "code", "math")
    assert found.models == ("nano",)
    curve = found.curves[0]
    assert curve.tokens == (10.0, 20.0, 30.0)
    assert curve.shares["best"] == (0.08, 0.16, 0.24)
    assert curve.single is not None
    with base.style():
        figure = tokens.draw(found)
    panels = [axes for axes in figure.get_axes() if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["all", "code", "math"]
    assert all(len(axes.get_lines()) == 4 for axes in panels)
    assert "tokens" in figures.STRATEGIES


def test_the_front_holds_what_nothing_cheaper_beats(run: Run) -> None:
    """Per model; what the data supports is ringed, and what asks another model is no point of it."""
    helped = graded("nano", "escalate-to-large", "11" * 40, HALF, tokens=12.0)
    helped.models["large"] = "llama.cpp large f16"
    found = front.data(Run.read(write_run(run.path.parent / "two", [*RECORDS, helped])), "strategies")
    assert found is not None
    nano, large = found.panels
    assert [cell.strategy for cell in nano.front] == ["single", "diverse"]
    assert (nano.advised, large.advised) == ("diverse", "single")
    assert [cell.strategy for cell in large.front] == ["single"]
    assert len(nano.cells) == 5
    with base.style():
        figure = front.draw(found)
    panels = [axes for axes in figure.get_axes() if axes.get_title(loc="left")]
    marks = [line.get_marker() for line in panels[0].get_lines()]
    assert marks.count("^") == 1
    assert [line.get_markersize() for line in panels[0].get_lines()].count(13) == 1
    texts = [text for axes in panels for text in axes.texts]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert {name for text in texts for name in text.get_text().split()} == {
        "single", "reread", "best-of-8", "diverse", "escalate-to-large"
    }  # fmt: skip


def test_the_gap_between_oracle_and_verifier_is_shaded_over_k(run: Run) -> None:
    """oracle@k, best@k and majority@k of each family; confidence beside them where it chose, too."""
    confident = graded("nano", "likeliest-of-8", HALF, HALF, sweep=[{**p, "best": 0.01} for p in SWEEP])
    found = samples.data(Run.read(write_run(run.path.parent / "two", [*RECORDS, confident])), "strategies")
    assert found is not None
    assert (found.models, found.families) == (("nano",), ("all", "code", "math"))
    panel = found.panels[0]
    assert panel.ks == (1, 2, 3)
    assert panel.shares["oracle"] == pytest.approx((0.1, 0.2, 0.3))
    assert panel.shares["likeliest"] == (0.01, 0.01, 0.01)
    with base.style():
        figure = samples.draw(found)
    axes = next(axes for axes in figure.get_axes() if axes.get_title(loc="left") == "nano, all")
    [gap] = axes.collections
    shaded = gap.get_paths()[0].get_extents()
    assert (shaded.y0, shaded.y1) == pytest.approx((8.0, 30.0))
    bare = samples.data(run, "strategies")
    assert bare is not None
    assert "likeliest" not in bare.panels[0].shares


def test_nothing_is_written_where_nothing_was_graded(tmp_path: Path) -> None:
    """A batch alone has times and no grades."""
    batch = graded("nano", "batched-8", "", "", control="nano-one-by-one-8")
    run = Run.read(write_run(tmp_path / "one", [batch]))
    assert exports.write(run) == []
    assert all(figure.data(run, "strategies") is None for figure in (front, samples, tokens))
