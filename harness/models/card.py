"""The model card: `card.json`, measured by `build`, and `CARD.md`, rendered from it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.models import engine, evaluate, paired, registry, workload
from harness.models.recipe import read
from harness.models.tasks import FAMILIES, Example, held_out

__all__ = ["CARD_JSON", "CARD_PAGE", "NUM_TASKS", "build", "render", "write"]

CARD_JSON = Path(__file__).with_name("card.json")
CARD_PAGE = Path(__file__).with_name("CARD.md")
NUM_TASKS = 250
"""Held-out tasks per family."""

_LATENCY_ROUNDS = 200
_UNSATURATED = 0.95
"""A family on which the large model scores more has no room left to differ."""


def write() -> None:
    """Measure everything and write both files."""
    card = build()
    CARD_JSON.write_text(json.dumps(card, indent=1) + "\n")
    CARD_PAGE.write_text(render(card))


def build(num_tasks: int = NUM_TASKS) -> dict[str, Any]:
    """Grade every pocket model on every family, the workflow, confidence and latency."""
    tasks = {
        name: held_out(family, count=num_tasks, seed=evaluate.GRADING_SEED)
        for name, family in FAMILIES.items()
    }
    grades: dict[str, dict[str, evaluate.Grades]] = {}
    for model in registry.names("pocket"):
        with engine.Engine(registry.gguf_path(model)) as loaded:
            grades[model] = {name: evaluate.grade(loaded, FAMILIES[name], tasks[name]) for name in tasks}
            print(model, {name: round(graded.share, 3) for name, graded in grades[model].items()}, flush=True)
    return {
        "num_tasks": num_tasks,
        "seed": evaluate.GRADING_SEED,
        "models": {model: _model_row(model) for model in grades},
        "families": {name: _family_row(name, tasks[name]) for name in tasks},
        "accuracy": {m: {name: round(g.share, 4) for name, g in row.items()} for m, row in grades.items()},
        "large_minus_nano": {
            name: _difference(grades["large"][name], grades["nano"][name]) for name in tasks
        },
        "confidence": {model: _confidence(grades[model]["fix"]) for model in ("nano", "large")},
        "flow": _flow(),
        "latency": _latency(),
    }


def render(card: dict[str, Any]) -> str:
    """Write the card as a page."""
    sections = (
        _opening(card),
        _models(card),
        _accuracy(card),
        _differences(card),
        _workflow(card),
        _speed(card),
    )
    return "\n".join("\n".join(section) + "\n" for section in sections)


def _model_row(name: str) -> dict[str, Any]:
    spec = registry.get(name)
    notes = json.loads((registry.checkpoint(name) / "training.json").read_text())
    shape = {"params": spec.params, "layers": spec.layers, "width": spec.width, "sha256": spec.sha256}
    recipe = read(name)
    return {**shape, "mixes": [stage.mix for stage in recipe.stages], "seed": recipe.seed, "training": notes}


def _family_row(name: str, tasks: list[Example]) -> dict[str, Any]:
    family = FAMILIES[name]
    trivial = sum(family.is_correct(task, family.trivial(task)) for task in tasks) / len(tasks)
    return {"chance": family.chance, "trivial": round(trivial, 4), "trivial_is": family.baseline}


def _difference(large: evaluate.Grades, nano: evaluate.Grades) -> dict[str, Any]:
    found = paired.difference(large.is_correct, nano.is_correct)
    return {"value": round(found.value, 4), "interval": _rounded(found.interval), "mcnemar_p": found.p}


def _confidence(grades: evaluate.Grades) -> dict[str, Any]:
    area = paired.auroc(grades.confidence, grades.is_correct)
    return {
        "score": "least token log-probability",
        "task": "fix",
        "auroc": None if area is None else round(area, 3),
    }


def _flow() -> dict[str, Any]:
    tasks = workload.draw_tasks()
    others = [task.case.brief for task in tasks[1:] + tasks[:1]]
    with evaluate.Flow(tasks) as flow:
        solved = {letters: flow.solved(letters) for letters in evaluate.ASSIGNMENTS}
        rows = {letters: _share(flags) for letters, flags in solved.items()}
        stages = {
            letter: {
                "brief": _share([b == t.case.brief for b, t in zip(flow.briefs(letter), tasks, strict=True)]),
                "fix_given_reference_brief": _share(flow.fixed(letter, [task.case.brief for task in tasks])),
                "fix_brief_withheld": _share(flow.fixed(letter, [""] * len(tasks))),
                "fix_brief_swapped": _share(flow.fixed(letter, others)),
            }
            for letter in "LS"
        }
        summaries = {letters: _share(flow.summed_up(letters)) for letters in ("LLL", "SLS", "LLS", "SSS")}
    gap = paired.difference(solved["SLS"], solved["LLL"])
    return {
        "num_tasks": len(tasks),
        "solved": rows,
        "summary_exact": summaries,
        "stages": stages,
        "sls_minus_lll": {"value": round(gap.value, 4), "interval": _rounded(gap.interval)},
    }


def _latency() -> dict[str, Any]:
    times = evaluate.decode_latency(_LATENCY_ROUNDS)
    ratio, interval = paired.ratio_interval(times["large"], times["nano"])
    medians = {name: round(sorted(values)[len(values) // 2], 4) for name, values in times.items()}
    return {
        "unit": "ms per decoded token, llama.cpp f16, one thread",
        "rounds": _LATENCY_ROUNDS,
        "median_ms": medians,
        "large_over_nano": round(ratio, 2),
        "interval": _rounded(interval),
    }


def _share(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 4)


def _rounded(interval: paired.Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]


def _opening(card: dict[str, Any]) -> list[str]:
    sizes = sorted(row["params"] / 1e6 for row in card["models"].values())
    return [
        "# Pocket models",
        "",
        "<!-- Written by `python -m harness.models evaluate`; do not edit. -->",
        "",
        f"Llama-architecture models of {sizes[0]:.1f} to {sizes[-1]:.1f} million parameters, trained from",
        "nothing on the synthetic tasks in `tasks/`. They are *capability miniatures*: they make differences",
        "in quality between models, routers and strategies real and measurable on a laptop.",
        "**They say nothing about the quality of real LLMs.**",
        "",
        f"All scores: greedy answers through llama.cpp (f16, one thread), n = {card['num_tasks']} held-out",
        f"tasks per family, drawn with seed {card['seed']}. Held out means: no training stream shows the",
        "code's skeleton (its syntax tree without names and constants), or, without code, the prompt.",
    ]


def _models(card: dict[str, Any]) -> list[str]:
    lines = [
        "## Models and training",
        "",
        "| model | parameters | layers × width | tokens | CPU-s | seed | mix of the last stage |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for name, row in card["models"].items():
        mix = ", ".join(f"{family} {share:g}" for family, share in row["mixes"][-1].items())
        notes = row["training"]
        size = f"{row['params']:,} | {row['layers']} × {row['width']}"
        effort = f"{notes['tokens'] / 1e6:.1f}M | {notes['cpu_s']:.0f}"
        lines.append(f"| {name} | {size} | {effort} | {row['seed']} | {mix} |")
    lines += [
        "",
        "Stages, rates and batch size: `recipes.toml`. Training is bit-stable only on one machine, so the",
    ]
    lines += ["weights are committed and their hashes stand in `registry.toml`."]
    return lines


def _accuracy(card: dict[str, Any]) -> list[str]:
    models = list(card["accuracy"])
    lines = [
        "## Held-out accuracy",
        "",
        f"| task | {' | '.join(models)} | chance | trivial | the trivial answer is |",
    ]
    lines.append("|" + "---|" * (len(models) + 4))
    for name, row in card["families"].items():
        cells = " | ".join(f"{card['accuracy'][model][name]:.3f}" for model in models)
        lines.append(
            f"| {name} | {cells} | {row['chance']:.2f} | {row['trivial']:.3f} | {row['trivial_is']} |"
        )
    return lines


def _differences(card: dict[str, Any]) -> list[str]:
    lines = [
        "## Large minus nano, task by task",
        "",
        "| task | difference | 95 % interval | McNemar p | saturated |",
    ]
    lines.append("|---|---|---|---|---|")
    for name, row in card["large_minus_nano"].items():
        low, high = row["interval"]
        is_saturated = card["accuracy"]["nano"][name] > _UNSATURATED
        lines.append(
            f"| {name} | {row['value']:+.3f} | {low:+.3f} … {high:+.3f} | {row['mcnemar_p']:.2g} "
            f"| {'yes' if is_saturated else ''} |"
        )
    return lines


def _workflow(card: dict[str, Any]) -> list[str]:
    flow = card["flow"]
    low, high = flow["sls_minus_lll"]["interval"]
    lines = [
        "## The workflow (`swe-mini`)",
        "",
        "Letters: the model of brief, fix and summary; L large, S nano.",
    ]
    lines += [
        f"Solved: every hidden test passes; n = {flow['num_tasks']}.",
        "",
        "| assignment | solved |",
        "|---|---|",
    ]
    lines += [f"| {letters} | {share:.3f} |" for letters, share in flow["solved"].items()]
    lines += [
        "",
        f"SLS minus LLL: {flow['sls_minus_lll']['value']:+.3f} (95 % {low:+.3f} … {high:+.3f}, paired).",
    ]
    exact = ", ".join(f"{letters} {share:.3f}" for letters, share in flow["summary_exact"].items())
    lines += ["Solved does not look at the summary; summaries equal to the reference: " + exact + "."]
    lines += ["", "| model | brief equal | fix, right brief | fix, no brief | fix, another task's brief |"]
    lines += ["|---|---|---|---|---|"]
    for letter, name in (("L", "large"), ("S", "nano")):
        lines.append(
            f"| {name} | " + " | ".join(f"{share:.3f}" for share in flow["stages"][letter].values()) + " |"
        )
    areas = ", ".join(f"{name} {row['auroc']}" for name, row in card["confidence"].items())
    lines += ["", f"AUROC of the least token log-probability for a right fix (family `fix`): {areas}."]
    return lines


def _speed(card: dict[str, Any]) -> list[str]:
    latency = card["latency"]
    low, high = latency["interval"]
    medians = latency["median_ms"]
    return [
        "## Speed",
        "",
        f"Decoding, {latency['unit']}, {latency['rounds']} rounds in turns: nano {medians['nano']:.3f}, "
        f"large {medians['large']:.3f}; large is {latency['large_over_nano']:.2f}× slower "
        f"(geometric mean of the pairs; 95 % {low:.2f} … {high:.2f}).",
    ]
