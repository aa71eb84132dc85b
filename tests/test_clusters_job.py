"""The suite as a Ray job: sent from outside the cluster, its results back through the job's output."""

from __future__ import annotations

import base64
import io
import json
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
from local_clusters import ROOT, finished, local_cluster

from harness.clusters.job import MARK, Home, main
from harness.errors import UsageError

LINES = b'{"nodeid": "a"}\n'


def packed(**files: bytes) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def line(run: str, content: bytes) -> str:
    return f"{MARK} line {run} {base64.b64encode(zlib.compress(content)).decode()}\n"


def test_what_carries_results_is_kept_and_the_rest_is_shown(tmp_path: Path) -> None:
    """However the output is cut into pieces."""
    whole = packed(run1__journal__jsonl=b"", run1__notes=b"kept")
    text = (
        f"one\n{line('run1', LINES)}two\n{MARK} part {whole[:20]}\n{MARK} part {whole[20:]}\n{MARK} end 1\n"
    )
    home = Home(tmp_path)
    shown = "".join(home.take(text[start : start + 7]) for start in range(0, len(text), 7))
    assert shown == "one\ntwo\n"
    assert home.exit_status == 1
    assert (tmp_path / "run1" / "notes").read_bytes() == b"kept"
    assert home.runs == [tmp_path / "run1"]


def test_a_job_that_is_lost_leaves_the_journal_of_what_finished(tmp_path: Path) -> None:
    """It never says how it ended."""
    home = Home(tmp_path)
    home.take(line("run1", LINES) + line("run1", LINES) + "and then")
    assert home.exit_status is None
    assert (tmp_path / "run1" / "journal.jsonl").read_bytes() == LINES * 2


def test_a_run_that_was_there_is_left_alone(tmp_path: Path) -> None:
    """It is of another job."""
    (tmp_path / "run1").mkdir()
    with pytest.raises(UsageError, match="run1: exists, and is of another run; give another folder"):
        Home(tmp_path).take(line("run1", LINES))
    assert list((tmp_path / "run1").iterdir()) == []


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    """What comes back was written on another machine."""
    Home(tmp_path / "into").take(line("../../out", LINES))
    assert (tmp_path / "into" / "out" / "journal.jsonl").read_bytes() == LINES
    assert not (tmp_path / "out").exists()
    with pytest.raises(tarfile.FilterError):
        Home(tmp_path / "other").take(f"{MARK} part {_leading_out()}\n{MARK} end 0\n")


def _leading_out() -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("run1/../../out"), io.BytesIO())
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("option", ["--results-dir=x", "--ray-address=a:1"])
def test_options_that_are_chosen_on_the_cluster_are_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sent."""
    assert main(["--", option]) == 2
    assert f"error: {option}: is chosen on the cluster" in capsys.readouterr().err


def test_a_job_resumes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The head has no results of an earlier one."""
    assert main(["--", "--resume"]) == 2
    assert "error: --resume: a job begins a run of its own" in capsys.readouterr().err


def test_an_address_where_nothing_listens_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be one."""
    pytest.importorskip("ray", reason="ray is missing; run: pip install 'assay[ray]'")
    assert main(["--address", "http://127.0.0.1:1", "--", "-m", "cascade"]) == 2
    assert "error: ray at http://127.0.0.1:1: " in capsys.readouterr().err


@pytest.mark.nightly
def test_a_job_on_three_nodes_brings_its_folder_back(tmp_path: Path) -> None:
    """Sent by one command; verdicts and where each variant was measured are read from what came."""
    pytest.importorskip("opencensus", reason="ray's dashboard is missing; run: pip install 'ray[default]'")
    pytest.importorskip("cvxpy", reason="cvxpy is missing; run: pip install 'assay[routing]'")
    head = {"include_dashboard": True, "dashboard_port": 18265}
    with local_cluster(3, head=head):
        options = ("-m", "routing", "-k", "published", "--profile", "replay")
        command = [sys.executable, "-m", "harness.clusters", "--address", "http://127.0.0.1:18265"]
        command += ["--python", sys.executable, "--into", str(tmp_path)]
        done = finished([*command, "--", *options], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = [folder for folder in tmp_path.iterdir() if (folder / "claims.json").is_file()]
    assert done.stdout.splitlines()[-1] == str(run)
    found = [json.loads(text) for text in (run / "journal.jsonl").read_text().splitlines()]
    assert len(found) >= 8
    assert len({entry["extra_info"]["node"]["name"] for entry in found}) > 1
    assert f"{MARK} line" not in done.stdout
