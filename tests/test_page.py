from __future__ import annotations

import base64
import csv
import gzip
import html
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import page
from reports.__main__ import main
from reports.claims import Claim
from reports.decisions.decision import region
from reports.pages import downloads
from reports.pages.dots import Dots
from reports.pages.scales import spot_of
from reports.pages.sections import tables_in
from reports.pages.steps import view
from reports.records import Failure
from reports.runs import Run
from tests.synthetic_runs import realistic, record, verdict, write_run

REFERENCE = Path(__file__).parent.parent / "reports" / "reference"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "br", "input", "img", "hr"}
STEPS = ["1 Physics", "2 Provenance", "3 Measurement", "4 Controls"]


class Page(HTMLParser):
    """What a page holds, as a browser or a screen reader would find it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.open: list[str] = []
        self._heading: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self._heading = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if self._heading is not None and re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), " ".join("".join(self._heading).split())))
            self._heading = None

    def handle_data(self, data: str) -> None:
        if self._heading is not None:
            self._heading.append(data)

    def of(self, *names: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [attrs for tag, attrs in self.tags if tag in names]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of verdict, and its page."""
    path = realistic(tmp_path_factory.mktemp("page") / "run")
    page.write(Run.read(path))
    return path


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    """The page's source."""
    return (folder / "report.html").read_text(encoding="utf-8")


def written(path: Path, *verdicts: dict[str, Any], **changes: Any) -> str:
    """The page of a small run with these verdicts."""
    run = Run.read(write_run(path / "run", [record("cascade", num_graded=4, **changes)], list(verdicts)))
    (path / "none").mkdir()
    page.write(run, path / "none")
    return (run.path / "report.html").read_text(encoding="utf-8")


def seen(path: Path, width: int, tmp_path: Path) -> str:
    """A page, all of it open, in a window so wide: "WIDTH|PIXELS THAT STICK OUT|WHAT THE FILTER FOUND"."""
    assert BROWSER is not None
    source = html.escape(path.read_text(encoding="utf-8"))
    host = f"""<!doctype html><meta charset=utf-8><link rel=icon href=data:,>
    <iframe style="border:0;width:{width}px;height:900px" srcdoc="{source}"></iframe><p id=seen></p><script>
    addEventListener("load", function () {{
      var inner = document.querySelector("iframe").contentDocument, e = inner.documentElement;
      var found = inner.querySelector("#found").textContent;
      inner.querySelectorAll("details").forEach(function (d) {{ d.open = true; }});
      var seen = [inner.defaultView.innerWidth, e.scrollWidth - e.clientWidth, found];
      document.querySelector("iframe").remove();
      document.querySelector("#seen").textContent = seen.join("|");
    }});</script>"""
    (tmp_path / "host.html").write_text(host, encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900",
            "--virtual-time-budget=2000", "--dump-dom", (tmp_path / "host.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    found = re.search(r'<p id="seen">(.*)</p>', done.stdout)
    return found[1] if found else ""


def test_a_page_is_whole_and_needs_nothing_beside_it(text: str) -> None:
    """Elements nest, ids are used once, and nothing is loaded from anywhere."""
    found = Page(text)
    assert not found.open
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in found.of("a"):
        href = attrs.get("href") or ""
        assert href.startswith(("#", "data:")), href
        assert not href.startswith("#") or href[1:] in ids, href
    assert not [a for a in found.of("script", "img", "iframe", "source") if "src" in a]
    assert [a["href"] for a in found.of("link")] == ["data:,"]
    assert not re.search(r"url\((?!#)|@import|https?://", text)


def test_what_an_svg_refers_to_is_in_its_own_figure(text: str) -> None:
    """Several figures share a page, and none borrows from another."""
    for drawing in re.findall(r"<svg[^>]*aria-labelledby.*?</svg>", text, re.S):
        ids = set(re.findall(r' id="([^"]+)"', drawing))
        used = set(re.findall(r'href="#([^"]+)"', drawing)) | set(re.findall(r"url\(#([^)]+)\)", drawing))
        assert used == ids


def test_headings_run_in_order_and_pictures_have_names(text: str) -> None:
    """A screen reader finds its way: levels without gaps, landmarks, a name on every picture and field."""
    found = Page(text)
    levels = [level for level, _ in found.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = {attrs.get("id") for _, attrs in found.tags}
    for attrs in found.of("svg"):
        assert attrs.get("aria-label") or attrs.get("aria-labelledby") in ids, attrs
    for tag in ("main", "nav", "header", "footer"):
        assert len(found.of(tag)) == 1
    assert all("scope" in attrs for attrs in found.of("th"))
    assert all(a.get("aria-label") for a in found.of("div") if a.get("role") == "region")
    assert found.of("html")[0]["lang"] == "en"


def test_every_claim_has_its_four_steps_and_one_that_ended_it(text: str, folder: Path) -> None:
    """In the order in which they are decided."""
    claims = re.findall(r'<details class="claim.*?</ol>', text, re.S)
    assert len(claims) == len(Run.read(folder).verdicts)
    for claim in claims:
        steps = re.findall(r"<h5>(\d) <span>(\w+)</span>", claim)
        assert [" ".join(step) for step in steps] == STEPS
        assert claim.count('<li class="ended">') == 1


@pytest.mark.parametrize(
    ("word", "step"),
    [("impossible", 1), ("out of scope", 2), ("invalid", 2), ("refuted", 3), ("confirmed, but", 4)],
)
def test_the_step_that_ended_a_claim_is_marked(tmp_path: Path, word: str, step: int) -> None:
    """Those after it were not reached."""
    given = verdict("c", word.split(",")[0], reason="why", not_against=["all-small"][: step == 4])
    found = written(tmp_path, given)
    ended = [item.startswith('"ended"') for item in found.split("<li class=")[1:]]
    marked = re.findall(r'<li class="ended"><h5>(\d)', found)
    assert any(ended)
    assert marked == [str(step)]


def test_text_of_a_claim_is_text(tmp_path: Path) -> None:
    """Markup in a claim, a reason or a failure is shown, and runs nowhere."""
    bad = "<script>alert(1)</script>\"'&"
    failure = Failure(arm="treatment", round=0, where=bad, error=bad)
    found = written(tmp_path, verdict("c", "refuted", says=bad, reason=bad, source=bad), failures=[failure])
    assert "alert(1)" in found
    assert "<script>alert" not in found
    assert len(Page(found).of("script")) == 2


def test_equal_folders_give_equal_pages(folder: Path, text: str) -> None:
    """No date of drawing, no order by chance."""
    page.write(Run.read(folder))
    assert (folder / "report.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", ["no verdict", "no record", "an old verdict"])
def test_a_run_with_little_in_it_has_a_page(tmp_path: Path, kind: str) -> None:
    """What is missing is said, and nothing breaks."""
    verdicts = [{"id": "x", "verdict": "refuted"}] if kind == "an old verdict" else []
    rounds = {"rounds": [], "tasks": []} if kind == "no record" else {}
    found = written(tmp_path, *verdicts, **rounds)
    assert ("No claim was judged" in found) == (not verdicts)
    assert "its machine is not known" in found
    assert not Page(found).open


def test_the_downloads_inside_the_page_are_the_files_beside_it(text: str, folder: Path) -> None:
    """Compressed, and the same to the last byte."""
    found = {a["data-name"]: str(a["href"]) for a in Page(text).of("a") if "data-name" in a}
    assert set(found) == {"claims.json", "claims.csv", "variants.csv", "rounds.csv"}
    for name, url in found.items():
        data = gzip.decompress(base64.b64decode(url.partition(",")[2]))
        if name == "claims.json":
            assert json.loads(data) == {"claims": [dict(v) for v in Run.read(folder).verdicts]}
        else:
            assert data == (folder / name).read_bytes()


def test_csv_holds_every_number_of_every_round(tmp_path: Path) -> None:
    """As measured; what was not measured is no row, and no 0."""
    given = record("cascade", num_rounds=3, num_graded=2)
    rounds = given.rounds
    assert rounds[0].treatment is not None
    rounds[0].treatment["analysis_s"] = None
    run = Run.read(write_run(tmp_path / "run", [given], [verdict("c", "out of scope")]))
    found = {n: list(csv.DictReader(io.StringIO(t))) for n, t in downloads.texts(run).items()}
    values = [
        v for r in run.records[0].rounds for arm in (r.treatment, r.control) if arm for v in arm.values()
    ]
    assert [float(row["value"]) for row in found["rounds.csv"]] == [v for v in values if v is not None]
    assert found["claims.csv"][0]["estimate"] == ""
    row = next(r for r in found["variants.csv"] if (r["arm"], r["metric"]) == ("treatment", "analysis_s"))
    assert (row["n"], row["over"]) == ("2", "rounds")


@pytest.mark.parametrize(("launch", "over", "n"), [("session", "sessions", 3), ("round", "rounds", 6)])
def test_csv_counts_what_stayed_up_once_per_session(tmp_path: Path, launch: str, over: str, n: int) -> None:
    """Rounds of one server are no observations of their own."""
    given = record("cascade", num_rounds=6, num_graded=0, launch=launch, sessions=3)
    for at, one in enumerate(given.rounds):
        given.rounds[at] = replace(one, session=at // 2)
    run = Run.read(write_run(tmp_path / "run", [given]))
    rows = list(csv.DictReader(io.StringIO(downloads.texts(run)["variants.csv"])))
    assert {(row["over"], int(row["n"])) for row in rows} == {(over, n)}
    row = next(r for r in rows if (r["arm"], r["metric"]) == ("treatment", "total_s"))
    values = [one.treatment["total_s"] or 0.0 for one in given.rounds if one.treatment]
    assert float(row["mean"]) == pytest.approx(sum(values) / 6)


def test_a_merged_run_says_so_and_how_it_is_made_again(tmp_path: Path) -> None:
    """Its first session is not the whole of it, and no commit holds what was changed."""
    path = write_run(tmp_path / "run", [record("cascade", num_graded=4)])
    sessions = [{"run": name, "started": f"2026-01-0{at}T10:00:00+00:00"} for at, name in enumerate("ab", 1)]
    about = {
        "commit": "a" * 40 + "-dirty",
        "sessions": sessions,
        "plan": {"settings": {"backend": ["x=a b"]}},
    }
    (path / "run.json").write_text(json.dumps(about))
    (tmp_path / "none").mkdir()
    page.write(Run.read(path), tmp_path / "none")
    found = " ".join(re.sub("<.*?>", "", html.unescape((path / "report.html").read_text())).split())
    assert "2 sessions merged, the first of 2026-01-01 10:00 UTC" in found
    assert (
        "# 2 times, a session each pytest bench/ -m cascade --backend 'x=a b' python -m reports merge"
        in found
    )
    assert "had changes then that this commit does not hold" in found


def number(form: str, quantity: str, published: float, estimate: float) -> dict[str, Any]:
    """A verdict with a number."""
    return verdict("c", "refuted", form=form, quantity=quantity, published=published, estimate=estimate,
                   interval=[estimate, estimate], control="baseline")  # fmt: skip


@given(
    form=st.sampled_from(["at_least", "at_most"]),
    quantity=st.sampled_from(["ratio", "reduction", "value", "difference"]),
    published=st.floats(0.01, 0.9),
    estimate=st.floats(0.001, 0.95),
)
def test_right_of_the_line_is_the_claims_side(
    form: str, quantity: str, published: float, estimate: float
) -> None:
    """Whatever is compared, and whether more or less is claimed."""
    claim = Claim(id="c", version=1, source="s", says="s", form=form, metric="m", treatment="t",
                  experiment="e", published=published, quantity=quantity)  # fmt: skip
    spot = spot_of(number(form, quantity, published, estimate), "lower")
    assert spot is not None
    low, high = region(claim)
    if not math.isclose(estimate, published, rel_tol=1e-9):
        assert (spot.at > 0) == (low <= estimate <= high)
    assert spot.band[0] <= spot.band[1]


@pytest.mark.parametrize(
    ("given", "at"),
    [
        (number("at_least", "ratio", 2.0, 4.0), math.log(2)),
        (number("at_most", "ratio", 2.0, 4.0), -math.log(2)),
        (number("at_least", "reduction", 0.5, 0.75), math.log(2)),
        (number("at_least", "difference", 0.1, 0.15), 5.0),
        ({**number("at_least", "difference", 0.1, 0.15), "unit": "share"}, 5.0),
    ],
)
def test_a_number_lies_as_far_as_it_is_beyond_its_threshold(given: dict[str, Any], at: float) -> None:
    """Twice is twice, a halved rest is twice, and shares differ by points."""
    spot = spot_of(given, "higher")
    assert spot is not None
    assert spot.at == pytest.approx(at)


def test_what_no_axis_can_hold_has_no_place_on_it() -> None:
    """A threshold of 0 divides nothing, and a claim without a number has none."""
    assert spot_of(number("at_most", "value", 0.0, 1.0), "lower") is None
    assert spot_of(verdict("c", "out of scope", published=2.0), "lower") is None
    assert spot_of({**number("at_least", "difference", 1.0, 2.0), "unit": "GB"}, "lower") is None


def test_an_interval_that_leaves_the_axis_is_cut_with_an_arrow() -> None:
    """Both ends stay on the drawing."""
    spot = spot_of({**number("at_least", "ratio", 1.0, 2.0), "interval": [1e-9, 1e9]}, "higher")
    assert spot is not None
    assert spot.is_cut == (True, True)
    assert 0 < spot.low < spot.x < spot.high < 300


def test_the_dots_of_a_claim_are_its_rounds(folder: Path) -> None:
    """Each pair as measured, in the unit of the metric."""
    run = Run.read(folder)
    measured = next(r for r in run.records if r.variant == "cascade")
    given = verdict("c", "confirmed", metric="total_s", quantity="reduction", published=0.2, estimate=0.3,
                    interval=[0.2, 0.4], n=10, treatment="cascade", control="baseline", form="at_least",
                    over="rounds", backend=measured.backend, settings=measured.settings)  # fmt: skip
    shown = view({**given, "experiment": "cascade"}, Dots(run)).dots
    assert shown is not None
    assert shown.kind == "pairs"
    assert len(shown.marks) == len(measured.pairs("total_s"))
    for mark, (treatment, control) in zip(shown.marks, measured.pairs("total_s"), strict=True):
        assert mark.other is not None
        assert (mark.x < mark.other) == (treatment < control)


@pytest.mark.parametrize(("quantity", "against"), [("value", None), ("difference", "all-small")])
def test_the_dots_of_a_claim_on_some_tasks_are_those_tasks(
    tmp_path: Path, quantity: str, against: str | None
) -> None:
    """And where it is compared with another variant, that one's, whatever engine it ran on."""
    given = [record("cascade", num_graded=12), record("all-small", num_graded=12, backend="other")]
    run = Run.read(write_run(tmp_path / "run", given))
    found = verdict("c", "confirmed", metric="cost_usd", quantity=quantity, published=0.2, estimate=0.3, n=3,
                    treatment="cascade", against=against, over="tasks", only="task-1",
                    backend="llama.cpp", settings=given[0].settings)  # fmt: skip
    shown = view(found, Dots(run)).dots
    assert shown is not None
    assert len(shown.marks) == 3  # tasks 1, 10 and 11
    assert shown.title.startswith("3 tasks")
    assert against is None or against in shown.title
    nobody = view({**found, "against": "nobody"}, Dots(run)).dots
    assert quantity == "value" or nobody is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (number("at_least", "ratio", 2.0, 4.0), "2 times the threshold, interval 2 to 2"),
        (number("at_most", "value", 10.0, 5.0), "0.5 times the threshold, interval 0.5 to 0.5"),
        (number("at_most", "difference", -0.05, -0.25), "−20.0 points from the threshold"),
        (number("at_least", "reduction", 0.5, 0.75), "2 times the threshold, both as 1 ÷ (1 − reduction)"),
    ],
)
def test_a_number_is_read_aloud_as_it_is(given: dict[str, Any], words: str) -> None:
    """The drawing is turned to the claim's side; its name is not."""
    spot = spot_of(given, "lower")
    assert spot is not None
    assert spot.words.startswith(words)


def test_forms_without_a_number_say_what_was_counted(folder: Path) -> None:
    """Neither an order nor a sweep compares with the control; what is exact has no level of 95 %."""
    dots = Dots(Run.read(folder))
    order, sweep = (
        view(verdict("c", "confirmed", form=f, quantity="ratio"), dots) for f in ("order", "monotone")
    )
    assert "other variants" in order.quantity
    given = verdict("c", "confirmed", quantity="reduction", per="solved", only="wb1", over="tasks")
    assert "each per solved, over tasks whose name begins with wb1" in view(given, dots).quantity
    given = verdict("c", "confirmed", form="monotone", along="agents", direction="increasing")
    assert view(given, dots).asks.startswith("increasing from the first point along agents")
    assert "from the first point" in sweep.quantity
    assert view(verdict("c", "refuted", method="exact, smallest to largest"), dots).method.endswith("largest")
    assert view(verdict("c", "refuted", method="t on rounds"), dots).method == "t on rounds; 95 %"


def test_the_headline_keeps_our_own_rows_apart(tmp_path: Path) -> None:
    """What holds as published is not mixed with what we ask ourselves, and what is missing is counted."""
    own = [verdict(f"own-{i}", "confirmed", scope="pocket") for i in range(3)]
    found = written(tmp_path, verdict("c", "refuted"), verdict("m", "missing"), *own)
    lines = [re.sub("<.*?>", "", text) for text in re.findall(r'<p class="headline">(.*?)</p>', found, re.S)]
    assert [" ".join(line.split()) for line in lines] == [
        "2 claims as the sources state them: 1 measured here (1 refuted); 1 missing.",
        "3 claims of our own, which ask what this profile can show: 3 measured here (3 confirmed).",
    ]


def test_a_torn_journal_is_told(tmp_path: Path) -> None:
    """A run that died does not look whole."""
    path = write_run(tmp_path / "run", [record("cascade", num_graded=4)], tail='{"nodeid": "benc')
    (tmp_path / "none").mkdir()
    page.write(Run.read(path), tmp_path / "none")
    assert "was cut off" in (path / "report.html").read_text(encoding="utf-8")


def test_an_experiment_of_any_name_is_drawn_within_the_folder(tmp_path: Path) -> None:
    """A foreign file cannot name a place to write to."""
    path = write_run(tmp_path / "a" / "run", [record("cascade", experiment="../../x", num_graded=4)])
    page.write(Run.read(path))
    assert not list(tmp_path.glob("*.svg"))
    assert list((path / "figures").glob("*.svg"))


def test_tables_of_variants_are_read_from_their_markdown() -> None:
    """The line above, the titles, the rows, and the notes beneath; an escaped bar is a bar."""
    first, second = tables_in(
        "scope\n\n| a | b |\n|---|--:|\n| x\\|y | 1 |\n\nnote\n\nmore\n\n| c |\n|---|\n| 2 |\n"
    )
    assert (first.scope, first.titles, first.rows, first.notes) == (
        "scope", ("a", "b"), (("x|y", "1"),), ("note",),
    )  # fmt: skip
    assert (second.scope, second.rows) == ("more", (("2",),))


def test_the_command_writes_the_page_and_names_what_is_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, with what to give instead."""
    path = write_run(tmp_path / "run", [record("cascade", num_graded=4)], [])
    assert main(["page", str(path)]) == 0
    assert str(path / "report.html") in capsys.readouterr().out
    assert main(["page", str(tmp_path)]) == 2
    assert "give the folder of a run" in capsys.readouterr().err


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_page_without_an_error(folder: Path, tmp_path: Path, width: int) -> None:
    """Its script runs to its end, the filter counts the claims, and nothing sticks out of the window."""
    total = len(Run.read(folder).verdicts)
    assert seen(folder / "report.html", width, tmp_path) == f"{width}|0|{total} claims"


@pytest.mark.nightly
def test_the_page_of_all_experiments_stays_small(tmp_path: Path) -> None:
    """The reference runs as one: six experiments and every claim in at most 5 MB."""
    run = tmp_path / "all"
    (run / "claims").mkdir(parents=True)
    runs = [REFERENCE / name for name in ("pocket", "pocket-switching", "pocket-strategies")]
    (run / "journal.jsonl").write_bytes(b"".join((r / "journal.jsonl").read_bytes() for r in runs))
    for path in (p for r in runs for p in (r / "claims").glob("*.toml")):
        shutil.copy(path, run / "claims")
    assert main(["verdicts", str(run)]) == 0
    (written_page, *_) = page.write(Run.read(run))
    assert written_page.stat().st_size < 5e6
    assert len(Page(written_page.read_text(encoding="utf-8")).of("section")) >= 6
