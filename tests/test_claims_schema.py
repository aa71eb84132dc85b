"""A claims file is read strictly; a malformed row names its file, claim and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.claims import Claim, load, load_all, needed_variants
from reports.errors import ClaimError

ROW = {
    "id": '"a"',
    "version": "1",
    "source": '"paper, Table 1"',
    "says": '"33 % faster"',
    "form": '"at_least"',
    "metric": '"total_s"',
    "treatment": '"cascade"',
    "control": '"baseline"',
    "published": "0.33",
}


def toml(**changes: str | None) -> str:
    """One [[claim]] table: ROW with keys changed, or removed where the change is None."""
    row = {**ROW, **changes}
    return "\n".join(
        ["[[claim]]", *(f"{key} = {value}" for key, value in row.items() if value is not None), ""]
    )


def write(folder: Path, text: str, name: str = "cascade.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def only(folder: Path, **changes: str | None) -> Claim:
    (claim,) = load(write(folder, toml(**changes)))
    return claim


def test_the_file_names_the_experiment(tmp_path: Path) -> None:
    assert only(tmp_path).experiment == "cascade"


def test_a_row_keeps_every_value_and_defaults_the_rest(tmp_path: Path) -> None:
    claim = only(tmp_path, covers='["x-1", "x-2"]', settings="{ tasks = 20 }")
    assert (claim.covers, claim.settings, claim.quantity, claim.over) == (
        ("x-1", "x-2"),
        {"tasks": 20},
        "ratio",
        "rounds",
    )


def test_a_sum_of_metrics_is_written_with_plus(tmp_path: Path) -> None:
    assert only(tmp_path, metric='"prompt_tokens+output_tokens"').metrics == (
        "prompt_tokens",
        "output_tokens",
    )


@pytest.mark.parametrize("quantity", ["ratio", "value"])
def test_a_quantile_goes_with_all_requests_of_an_arm(tmp_path: Path, quantity: str) -> None:
    claim = only(tmp_path, quantile="0.99", over='"requests"', quantity=f'"{quantity}"')
    assert claim.quantile == 0.99


def test_a_sweeps_points_are_chosen_by_what_they_say(tmp_path: Path) -> None:
    row = {"form": '"monotone"', "published": None, "along": '"x"', "direction": '"increasing"'}
    assert only(tmp_path, over='"sweep"', only='"policy=lru warm=cold"', **row).only == "policy=lru warm=cold"


def test_the_lower_end_of_a_range_is_its_threshold(tmp_path: Path) -> None:
    assert only(tmp_path, form='"between"', published="[0.4, 0.6]").threshold == 0.4


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"tolerence": "0.1"}, "tolerence"),
        ({"treatment": None}, "treatment"),
        ({"form": '"atleast"'}, "form"),
        ({"quantity": '"speedup"'}, "quantity"),
        ({"over": '"seconds"'}, "over"),
        ({"version": '"1"'}, "version"),
        ({"version": "true"}, "version"),
        ({"version": "0"}, "version"),
        ({"published": '"33 %"'}, "published"),
        ({"published": "nan"}, "published"),
        ({"published": "inf"}, "published"),
        ({"published": None}, "published"),
        ({"published": "[0.3, 0.4]"}, "published"),
        ({"form": '"between"'}, "published"),
        ({"form": '"between"', "published": "[0.6, 0.4]"}, "published"),
        ({"form": '"between"', "published": "[0.4, 0.5, 0.6]"}, "published"),
        ({"form": '"equivalent"'}, "margin"),
        ({"form": '"no_worse_than"', "margin": "0.0"}, "margin"),
        ({"margin": "0.1"}, "margin"),
        ({"control": None}, "control"),
        ({"of": '"task_s"'}, "of"),
        ({"per": '"solved"', "over": '"sweep"'}, "per"),
        ({"quantity": '"value"', "also_beats": '["random"]'}, "also_beats"),
        ({"scope": '"pocket"'}, "threshold_from"),
        ({"threshold_from": '"physics"'}, "threshold_from"),
        ({"scope": '"laptop"', "threshold_from": '"physics"'}, "scope"),
        ({"scope": '"node"', "requires": '["profile:node"]'}, "threshold_from"),
        ({"scope": '"node"', "threshold_from": '"physics"'}, "requires"),
        ({"floor_inputs": "{ a = 1 }"}, "floor"),
        ({"requires": '["node"]'}, "requires"),
        ({"requires": '"profile:node"'}, "requires"),
        ({"provenance": "[1]"}, "provenance"),
        ({"settings": "3"}, "settings"),
        ({"form": '"order"', "published": None}, "among"),
        ({"form": '"order"', "published": None, "among": '["b"]', "axes": '["cost"]'}, "axes"),
        ({"form": '"monotone"', "published": None}, "along"),
        ({"against": '"backend:ollama"'}, "against"),
        ({"against": '"edge"', "quantity": '"difference"'}, "against"),
        ({"against": '"platform:q8_0"', "quantity": '"ratio"'}, "against"),
        ({"against": '"edge"', "quantity": '"value"'}, "against"),
        ({"quantile": "0.95"}, "quantile"),
        ({"quantile": "1.0", "quantity": '"value"'}, "quantile"),
        ({"quantile": "0.5", "over": '"requests"', "quantity": '"difference"'}, "quantile"),
        ({"quantile": "0.5", "over": '"requests"', "form": '"exact"'}, "quantile"),
        ({"quantile": "0.5", "over": '"tasks"'}, "quantile"),
        ({"only": '"wb1"'}, "only"),
        ({"only": '"lru"', "over": '"sweep"'}, "only"),
        ({"says": '" "'}, "says"),
    ],
)
def test_a_malformed_row_names_file_claim_and_key(
    tmp_path: Path, changes: dict[str, str | None], key: str
) -> None:
    path = write(tmp_path, toml(**changes))
    with pytest.raises(ClaimError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "'a'" in str(error.value)
    assert f"'{key}'" in str(error.value)


def test_an_unknown_key_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"known keys: .*metric"):
        load(write(tmp_path, toml(metrik='"x"')))


def test_a_row_without_an_id_is_named_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"number 1.*'id'"):
        load(write(tmp_path, toml(id=None)))


@pytest.mark.parametrize("text", ["[claim]\nid = 1", "x = 1", "[[claim]\n", "\x00"])
def test_what_is_not_a_claims_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ClaimError, match=r"\[\[claim\]\]"):
        load(write(tmp_path, text))


def test_a_claims_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_two_rows_of_one_file_do_not_share_an_id(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="already used"):
        load(write(tmp_path, toml() + toml()))


def test_rows_of_two_files_do_not_share_an_id(tmp_path: Path) -> None:
    write(tmp_path, toml())
    write(tmp_path, toml(), "routing.toml")
    with pytest.raises(ClaimError, match=r"routing\.toml.*already used in .*cascade\.toml"):
        load_all(tmp_path)


def test_a_folder_is_read_whole_but_for_what_holds_no_rows(tmp_path: Path) -> None:
    write(tmp_path, toml())
    write(tmp_path, toml(id='"b"'), "routing.toml")
    write(tmp_path, "", "uncovered.toml")
    assert [claim.id for claim in load_all(tmp_path)] == ["a", "b"]


def test_a_folder_without_claims_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="no claims file"):
        load_all(tmp_path)


def test_a_claim_needs_its_treatment_alternatives_and_rivals_once_each(tmp_path: Path) -> None:
    claim = only(tmp_path, also_beats='["random", "cascade"]')
    assert needed_variants(claim) == ("cascade", "random")
    order = only(
        tmp_path, form='"order"', published=None, among='["b", "cascade"]', axes='["rounds:total_s"]'
    )
    assert needed_variants(order) == ("cascade", "b")


def test_the_other_side_of_two_gains_is_needed_when_it_is_a_variant(tmp_path: Path) -> None:
    row = {"form": '"equivalent"', "margin": "0.1"}
    assert needed_variants(only(tmp_path, against='"edge"', **row)) == ("cascade", "edge")
    assert needed_variants(only(tmp_path, against='"backend:ollama"', **row)) == ("cascade",)


def test_a_claim_is_plain_json(tmp_path: Path) -> None:
    import json

    assert json.loads(json.dumps(only(tmp_path).to_json()))["published"] == 0.33
