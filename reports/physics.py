"""What arithmetic and hardware allow: the bounds that can end a claim before it is measured.

A bound is named by a claim's `floor` and computed from its `floor_inputs`, whose sources stand in the claims
file. It says how large (or how small) the claim's number can be at all, shows the sum on one line, and names
the condition under which the claim would be possible. Bounds err on the claim's side: what is unknown is set
to what helps the claim most.

    token_budget    how far routing can lower a token *count* at fixed output caps
    amdahl          how much of a total the routed part can save
    offload         how much more a saturated server can do when part of its work leaves
    decode_ratio    how much of a stage a smaller model can save, by the weights each token reads
    decode_floor    the time that decoding takes at least, by the weights each token reads
    priced_tokens   how much of a token bill the routed part can save
    held_at_once    the memory that named models take (`reports.bounds.counting`, as the next two)
    compliant_sum   how much the models of a job can take in sum when each fits a budget by itself
    counted_gap     how far two mean scores can lie apart, by the tasks on which one arm was better
    token_floor     the time that decoded tokens take at least, by the weights that each reads
                    (`reports.bounds.decoding`, as the next three)
    weight_traffic  how fast memory was read at least, by the time a token took
    link_ratio      how much slower a token becomes at most when its state crosses a link
    link_ratio_least  how much slower it becomes at least
    reflect_ratio   how many times as long a first step takes as a second that finds its history kept
                    (`reports.bounds.agents`, as the next three)
    density_ratio   how many times as many agents fit at most when they share weights
    refused_at      which agent with a model of its own finds no memory, at the earliest
    latency_ratio   how many times as fast as a stated time a step can be
    time_left       what a stated total leaves for a switch (`reports.bounds.switching`, as the next six)
    copies_s        how long a request takes at most that copies so much at a stated rate
    cold_hits       the share of hits at most, with nothing resident at first
    evictable       what an eviction frees at most
    room_needed     what has to go at most, for one model to come
    whole_requests  how many requests a rounded share is at least
    sum_of_parts    how long a whole takes at least, by its parts
    stated_rate     the most tokens per second by a source's own cells (`reports.bounds.stated`, as the next)
    summed_cells    the longest that a run takes by a source's own cells
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from reports.bounds.agents import density_ratio, latency_ratio, reflect_ratio, refused_at
from reports.bounds.base import Bound
from reports.bounds.counting import compliant_sum, counted_gap, held_at_once
from reports.bounds.decoding import link_ratio, link_ratio_least, token_floor, weight_traffic
from reports.bounds.stated import stated_rate, summed_cells
from reports.bounds.switching import (
    cold_hits,
    copies_s,
    evictable,
    room_needed,
    sum_of_parts,
    time_left,
    whole_requests,
)
from reports.errors import ClaimError

__all__ = ["BOUNDS", "Bound", "bound"]


def bound(name: str, inputs: Mapping[str, Any]) -> Bound:
    """The bound `name` for `inputs`.

    Raises
    ------
    ClaimError: no such bound, an input missing or unknown, or one that the bound cannot be computed from.
    """
    if name not in BOUNDS:
        raise ClaimError(f"floor {name!r} is none of {', '.join(sorted(BOUNDS))}")
    known = inspect.signature(BOUNDS[name]).parameters
    needed = {key for key, spec in known.items() if spec.default is spec.empty}
    if wrong := (inputs.keys() - known.keys()) | (needed - inputs.keys()):
        takes = ", ".join(known)
        raise ClaimError(f"floor {name!r}: floor_inputs {sorted(wrong)} unknown or missing; it takes {takes}")
    try:
        return BOUNDS[name](**inputs)
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as exc:
        raise ClaimError(f"floor {name!r}: floor_inputs {dict(inputs)}: {exc}") from exc


def token_budget(
    *,
    tasks: int,
    caps: Mapping[str, int],
    routed: Sequence[str],
    baseline_tokens: float,
    cascade_tokens: float,
    tokenizer_ratio: float,
    template_tokens: int,
) -> Bound:
    """How far routing some stages to a model with another tokenizer can lower the number of tokens.

    Both arms send the same prompts (as published, no stage reads another's output), so a routed prompt
    changes its count only through the tokenizer, and the stages that stay change nothing: same model, same
    prompt. Routed outputs are at most their caps, and are let fall to nothing. Every routed prompt holds at
    most what a kept one does, plus `template_tokens` of instructions, so of P prompt tokens at most
    k (P + j t) / (k + j) are routed, for k routed and j kept stages.

    Arguments
    ---------
    caps: stage → output tokens allowed. routed: the stages whose model changes.
    baseline_tokens, cascade_tokens: the published totals.
    tokenizer_ratio: tokens of the small model's tokenizer per token of the large's, on such text at least.
    """
    routed_caps = sum(caps[stage] for stage in routed)
    k, j = len(routed), len(caps) - len(routed)
    per_task = baseline_tokens / tasks
    prompts = k * (per_task - routed_caps + j * template_tokens) / (k + j)
    saved = routed_caps + (1 - tokenizer_ratio) * prompts
    wanted = (baseline_tokens - cascade_tokens) / tasks
    ratio_needed = 1 - (wanted - routed_caps) / prompts
    price_needed = 1 - wanted / (routed_caps + prompts)
    outputs = tasks * sum(caps.values())
    stages = " + ".join(f"{cap}" for cap in caps.values())
    return Bound(
        name="token_budget",
        side="at_most",
        value=saved / per_task,
        unit="share of the tokens",
        inputs={
            "tasks": tasks,
            "caps": dict(caps),
            "routed": list(routed),
            "tokenizer_ratio": tokenizer_ratio,
            "template_tokens": template_tokens,
            "baseline_tokens": baseline_tokens,
            "cascade_tokens": cascade_tokens,
        },
        arithmetic=(
            f"outputs ≤ {tasks} × ({stages}) = {outputs:,} tokens, ≤ {tasks * routed_caps:,} of them "
            "routed; prompts are the same text in both arms, of which routed "
            f"≤ {k} × ({per_task:,.0f} − {routed_caps} + {j * template_tokens}) / {k + j} = {prompts:,.0f} "
            f"per task, × (1 − {tokenizer_ratio:g}) for the tokenizer; saved ≤ {routed_caps} + "
            f"{(1 - tokenizer_ratio) * prompts:,.0f} of {per_task:,.0f} per task = "
            f"{saved / per_task:.1%}, not {wanted / per_task:.1%}"
        ),
        condition=(
            f"possible as a count if the small model's tokenizer made ≤ {ratio_needed:.2f} tokens per token "
            f"of the large's; as money if the small model's token costs ≤ {price_needed:.0%} of the large's"
        ),
    )


def amdahl(*, total_s: float, routed_s: float, speedup: float = inf) -> Bound:
    """The share of a total that speeding up a part of it can save (Amdahl, AFIPS 1967)."""
    share = _share(routed_s, total_s)
    value = share * (1 - 1 / speedup)
    factor = "" if speedup == inf else f" × (1 − 1/{speedup:g})"
    return Bound(
        name="amdahl",
        side="at_most",
        value=value,
        unit="share of the time",
        inputs={
            "total_s": total_s,
            "routed_s": routed_s,
            "speedup": speedup if speedup < inf else "unbounded",
        },
        arithmetic=f"saved ≤ {routed_s:g} s / {total_s:g} s{factor} = {value:.1%}",
        condition="more is possible only where the routed stages are a larger share of the total",
    )


def offload(*, total: float, routed: float, unit: str = "s") -> Bound:
    """How many times more a saturated server can do when the `routed` part of its work moves elsewhere."""
    share = _share(routed, total)
    value = 1 / (1 - share) if share < 1 else inf
    return Bound(
        name="offload",
        side="at_most",
        value=value,
        unit="times",
        inputs={"total": total, "routed": routed, "unit": unit},
        arithmetic=f"the large server keeps {total - routed:g} of {total:g} {unit} per task: ≤ {value:.2f}×",
        condition="more is possible only where the routed stages are more of the large server's work",
    )


def decode_ratio(*, large_bytes: float, small_bytes: float) -> Bound:
    """The share of a stage's time that a smaller model saves at most, by the bytes of weights per token.

    Decoding one sequence reads every weight once per token, so memory bandwidth cancels out of the ratio;
    prefill and fixed costs only lower it where bandwidth binds both models.
    """
    value = 1 - small_bytes / large_bytes
    return Bound(
        name="decode_ratio",
        side="at_most",
        value=value,
        unit="share of the time",
        inputs={"large_bytes": large_bytes, "small_bytes": small_bytes},
        arithmetic=f"1 − {small_bytes / 1e9:.3g} GB / {large_bytes / 1e9:.3g} GB = {value:.1%}",
        condition="more is possible only where the small model writes fewer tokens",
    )


def decode_floor(
    *,
    tokens: float,
    weight_bytes: float,
    bandwidth_bytes_per_s: float,
    published_s: float,
    device: str = "the device",
) -> Bound:
    """The seconds that decoding `tokens` one after another takes at least on a memory of that bandwidth."""
    read = tokens * weight_bytes
    value = read / bandwidth_bytes_per_s
    return Bound(
        name="decode_floor",
        side="at_least",
        value=value,
        unit="s",
        inputs={
            "tokens": tokens,
            "weight_bytes": weight_bytes,
            "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
            "published_s": published_s,
            "device": device,
        },
        arithmetic=(
            f"{tokens:,.0f} tokens × {weight_bytes / 1e9:.3g} GB ÷ {bandwidth_bytes_per_s / 1e12:.3g} TB/s "
            f"({device}) = {value:.3g} s when every output reaches its cap"
        ),
        condition=f"{published_s:g} s need ≥ {read / published_s / 1e9:,.0f} GB/s at full output caps",
    )


def priced_tokens(
    *, caps: Mapping[str, int], routed: Sequence[str], price_ratio: float = 0.0, prompt_share: float = 2 / 3
) -> Bound:
    """The share of a token bill that routing can save, when in- and output cost alike.

    The routed share of a bill lies between that of the outputs and that of the prompts; the larger is taken.
    """
    out = sum(caps[stage] for stage in routed) / sum(caps.values())
    value = max(out, prompt_share) * (1 - price_ratio)
    return Bound(
        name="priced_tokens",
        side="at_most",
        value=value,
        unit="share of the cost",
        inputs={
            "caps": dict(caps),
            "routed": list(routed),
            "price_ratio": price_ratio,
            "prompt_share": prompt_share,
        },
        arithmetic=(
            f"max(outputs {out:.1%}, prompts {prompt_share:.1%}) × (1 − {price_ratio:g}) = {value:.1%} "
            f"for a bill of prompts alone; {out * (1 - price_ratio):.1%} for a bill of outputs alone"
        ),
        condition="more than the outputs' share is possible only where prompts make most of the bill",
    )


def _share(part: float, whole: float) -> float:
    if not 0 <= part <= whole or whole <= 0:
        raise ValueError(f"{part} is not a part of {whole}")
    return part / whole


BOUNDS: dict[str, Callable[..., Bound]] = {
    f.__name__: f
    for f in (
        token_budget,
        amdahl,
        offload,
        decode_ratio,
        decode_floor,
        priced_tokens,
        held_at_once,
        compliant_sum,
        counted_gap,
        token_floor,
        weight_traffic,
        link_ratio,
        link_ratio_least,
        reflect_ratio,
        density_ratio,
        refused_at,
        latency_ratio,
        time_left,
        copies_s,
        cold_hits,
        evictable,
        room_needed,
        whole_requests,
        sum_of_parts,
        stated_rate,
        summed_cells,
    )
}
