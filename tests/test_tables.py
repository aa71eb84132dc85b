from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import tables
from reports.records import Round, TaskPair
from reports.runs import Run
from reports.tabular.verdict_cells import counts, measured, published, sentence
from reports.verdicts import WORDS
from tests.synthetic_runs import failed, realistic, record, verdict, verdicts, write_run


def row(text: str, start: str) -> str:
    """The line of a table that begins with `start`."""
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of invented numbers."""
    return Run.read(realistic(tmp_path_factory.mktemp("run")))


def test_a_claim_shows_both_numbers_and_its_verdict() -> None:
    """Published, measured with interval, letter and word stand on one line; source and reason beneath."""
    text = tables.claims_table(
        [
            verdict(
                "total",
                "refuted",
                estimate=0.296,
                interval=[0.281, 0.311],
                published=0.33,
                quantity="reduction",
                reason="right direction, 29.6 % of 33 %",
            )
        ]
    )
    lines = text.splitlines()
    assert lines[2] == "total  33 %       29.6 % [28.1, 31.1]       R refuted"
    assert lines[3] == "    the cascade takes 33 % less time (cascade.md, Expected Results, row 1)"
    assert lines[4] == "    → right direction, 29.6 % of 33 %"
    assert lines[-1] == "1 claim: 1 refuted"


@pytest.mark.parametrize(
    ("changes", "shown_published", "shown_measured"),
    [
        (
            {"published": 2.0, "quantity": "ratio", "estimate": 1.62, "interval": [1.51, 1.74]},
            "2×",
            "1.62× [1.51, 1.74]",
        ),
        ({"published": [0.4, 0.6], "quantity": "reduction"}, "40 to 60 %", "–"),
        (
            {
                "published": 0.0,
                "quantity": "difference",
                "over": "tasks",
                "estimate": -0.008,
                "interval": [-0.04, 0.024],
            },
            "0 points",
            "−0.8 points [−4.0, 2.4]",
        ),
        (
            {
                "published": 0.01,
                "quantity": "value",
                "unit": "s",
                "estimate": 0.0021,
                "interval": [0.0019, 0.0023],
            },
            "10 ms",
            "2.10 ms [1.90, 2.30]",
        ),
        ({"published": 40000.0, "quantity": "value", "unit": "tokens"}, "40000 tokens", "–"),
        (
            {"form": "order", "quantity": "ratio", "estimate": 0.0, "interval": [0.0, 7.0]},
            "–",
            "0 rivals [0, 7]",
        ),
        (
            {"published": 1.0, "quantity": "value", "unit": "calls", "estimate": 1.0, "interval": [1.0, 1.0]},
            "1 calls",
            "1 calls [1, 1]",
        ),
        ({"published": 0.01, "quantity": "value", "of": "task_s", "estimate": 0.0016}, "1 %", "0.160 %"),
        ({}, "–", "–"),
    ],
    ids=["ratio", "range", "points", "seconds", "tokens", "rivals", "exact", "share", "absent"],
)
def test_numbers_carry_the_unit_of_what_is_compared(
    changes: dict[str, object], shown_published: str, shown_measured: str
) -> None:
    """Ratios in ×, reductions in %, differences of shares in points, values in their own unit."""
    claim = verdict("x", "inconclusive", **changes)
    assert published(claim) == shown_published
    assert measured(claim) == shown_measured


def test_a_claim_that_loses_to_a_control_says_so() -> None:
    """ "confirmed, but" has a letter of its own, and the control is named."""
    claim = verdict("x", "confirmed", not_against=["all-small", "random"], reason="random: it is better")
    text = tables.claims_table([claim])
    assert row(text, "x").endswith("c confirmed, but")
    assert "    → not against all-small, random; random: it is better" in text
    assert sentence(claim) == "confirmed, but not against all-small, random"


def test_counts_run_from_good_to_bad() -> None:
    """The order is that of the verdicts, not of the claims."""
    assert counts([verdict("a", "refuted"), verdict("b", "confirmed"), verdict("c", "confirmed")]) == (
        "3 claims: 2 confirmed, 1 refuted"
    )
    assert counts([]) == "0 claims: none judged"


def test_tables_fit_a_hundred_columns(run: Run) -> None:
    """No line of either table is longer than the terminal, whatever the names."""
    long = verdict("cascade-" + "very-" * 30 + "long", "missing", reason="word " * 60, source="s" * 130)
    text = tables.claims_table([*run.verdicts, long]) + "\n" + tables.variants_table(run)
    assert max(map(len, text.splitlines())) <= 100


def test_no_colour_stands_in_the_text(run: Run) -> None:
    """Colour is the caller's."""
    assert "\x1b" not in tables.claims_table(run.verdicts) + tables.variants_table(run)


def test_markup_gets_the_padded_cell_and_the_word() -> None:
    """The caller's colours cannot move a column."""
    seen: list[tuple[str, str]] = []

    def markup(text: str, word: str) -> str:
        seen.append((text, word))
        return f"<{text}>"

    text = tables.claims_table(verdicts(), markup=markup)
    assert {word for _, word in seen} == {"confirmed, but", *(v["verdict"] for v in verdicts())}
    assert len({len(cell) for cell, _ in seen}) == 1
    assert row(text, "pocket-total").endswith("<C confirmed     >")


@given(word=st.sampled_from(sorted(WORDS)), reason=st.text(max_size=300), id=st.text(min_size=1, max_size=80))
def test_any_claim_can_be_shown(word: str, reason: str, id: str) -> None:
    """Odd text neither breaks the table nor widens it."""
    text = tables.claims_table([verdict(id, word, reason=reason)])
    assert max(map(len, text.splitlines())) <= 100


def test_nothing_judged_reads_as_that() -> None:
    """An empty table is a sentence."""
    assert tables.claims_table([]) == "no claim was judged"


def test_a_variant_shows_time_stages_cost_and_quality(tmp_path: Path) -> None:
    """One row per variant, in units that read well, with what the run was made of above."""
    one = record(
        "cascade",
        control=None,
        rounds=[
            Round(
                order="CT",
                treatment={
                    "total_s": t,
                    "analysis_s": 0.011,
                    "code_s": 0.090,
                    "summary_s": 0.008,
                    "cost_usd": 1.0,
                },
            )
            for t in (2.30, 2.40, 2.35)
        ],
        tasks=[TaskPair(id=str(i), treatment={"solved": float(i < 3), "cost_usd": 2e-6}) for i in range(4)],
    )
    text = tables.variants_table(Run.read(write_run(tmp_path / "run", [one])))
    assert text.splitlines()[0].startswith(
        "cascade: llama.cpp · large = pocket:large@f16, small = pocket:nano@f16 · 3 rounds of 20 tasks · 4"
    )
    heading, cells = row(text, "variant").split(), row(text, "cascade  ").split()
    assert " ".join(heading) == "variant total s analysis ms code ms summary ms cost µ$ solved % µ$/solved"
    assert cells == ["cascade", "2.35", "±0.12", "11", "90", "8", "2", "75", "[30,", "95]", "3"]


def test_a_failed_variant_keeps_its_row(run: Run) -> None:
    """Its cells are dashes, never 0, and its failures are counted beneath."""
    text = tables.variants_table(run)
    assert set(row(text, "hybrid  ").split()[1:]) == {"–"}
    assert "hybrid: failures: 3" in text


def test_a_control_without_a_test_of_its_own_is_shown_as_borrowed(tmp_path: Path) -> None:
    """Its numbers come from the arm beside a variant, and a note says so."""
    text = tables.variants_table(Run.read(write_run(tmp_path / "run", [record("cascade", num_graded=20)])))
    assert row(text, "baseline*")
    assert "* baseline: measured as the control beside cascade" in text


def test_stages_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """No column disappears without a word."""
    run = Run.read(write_run(tmp_path / "run", [record("cascade", num_graded=20)]))
    text = tables.variants_table(run, width=70)
    assert max(map(len, text.splitlines())) <= 70
    assert "not shown for want of width: code, summary" in text


def test_offered_load_has_a_table_of_its_own(run: Run) -> None:
    """Goodput of each arm at each rate, with the SLO it was held to."""
    text = tables.variants_table(run)
    assert "12 arrivals at each rate · profile pocket · measured · SLO 500 ms" in " ".join(text.split())
    assert row(text, "goodput, tasks/s").split()[2:] == ["1.5/s", "3/s", "6/s", "9/s"]
    assert len([x for x in text.splitlines() if x.startswith("load-")]) == 4


def test_a_reason_that_many_claims_share_is_printed_once() -> None:
    """Thirty rows out of one scope do not repeat what they need."""
    reason = "needs profile:node, backend:sglang, large:mistral-7b-instruct-v0.3"
    claims = [verdict(f"c{i}", "out of scope", reason=reason) for i in range(4)]
    text = tables.claims_table(claims)
    assert text.count("→ reason 1") == 4
    assert text.count(reason) == 1
    assert tables.claims_table(claims[:2]).count(reason) == 2


def test_nothing_measured_reads_as_that(tmp_path: Path) -> None:
    """A run of a load ladder alone has no variant to show."""
    empty = record("cascade", control=None, rounds=[], tasks=[], metrics={})
    run = Run.read(write_run(tmp_path / "run", [empty]))
    assert tables.variants_table(run) == "no variant was measured"
    assert tables.variants_markdown(run) == "no variant was measured"


def test_markdown_holds_the_five_columns_of_the_readme() -> None:
    """Pipes in a text do not break the table."""
    text = tables.claims_markdown(
        [
            verdict(
                "x",
                "confirmed",
                says="a | b",
                published=0.25,
                quantity="reduction",
                estimate=0.3,
                interval=[0.28, 0.32],
            )
        ]
    )
    assert text.splitlines() == [
        "| claim | source | published | measured | verdict |",
        "|---|---|---|---|---|",
        "| a \\| b | cascade.md, Expected Results, row 1 | 25 % | 30.0 % [28.0, 32.0] | **confirmed** |",
    ]


def test_markdown_of_variants_shows_every_interval(run: Run) -> None:
    """The wide table has room for all of them."""
    text = tables.variants_markdown(run)
    line = row(text, "| cascade |")
    assert line.count("[") == 7
    assert row(text, "| hybrid |").count("–") == 7


def test_a_failed_run_is_no_error(tmp_path: Path) -> None:
    """A run in which everything failed still has its table."""
    assert "hybrid" in tables.variants_table(Run.read(write_run(tmp_path / "run", [failed()])))


def test_a_difference_of_shares_is_in_points_and_any_other_in_its_own_unit() -> None:
    """4.5 GB more per answer are no 450 points."""
    shares = {"quantity": "difference", "over": "jobs", "estimate": 0.111, "interval": None, "published": 0.1}
    for unit in ("", "share"):
        found = {**shares, "unit": unit}
        assert (measured(found), published(found)) == ("11.1 points", "10 points")
    sizes = {**shares, "over": "tasks", "unit": "GB", "estimate": 4.25, "published": 4.5}
    assert (measured(sizes), published(sizes)) == ("4.25 GB", "4.5 GB")
