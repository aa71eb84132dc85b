"""Bounds of agents that reason, wait and reflect: how many fit, and what a second step can save at most.

A step that finds its history kept computes the new tokens alone. Its n tokens take at least n readings of the
weights, as the first step's do; what it saves is the prompt's computing. So over a short prompt, or many new
tokens, the two steps take as long, and the ratio of their totals is bounded by arithmetic.

    reflect_ratio    how many times as long REASON takes at most, by prompt and new tokens
    density_ratio    how many times as many agents shared weights hold at most, in an experiment that ends
                     at so many agents
    refused_at       the agent that is refused memory at the earliest, each with a model of its own
    latency_ratio    how many times as fast a step is at most, by what the slower arm is said to take

Trap: a ratio of two programs has no ceiling, since the slower one can always be slower. `prefill_share` says
how badly the prompt may be computed; decoding is taken at its floor, which makes the ratio larger.
"""

from __future__ import annotations

import math

from reports.bounds.base import Bound

__all__ = ["density_ratio", "latency_ratio", "reflect_ratio", "refused_at"]


def reflect_ratio(
    *,
    prompt_tokens: int,
    new_tokens: int,
    params: float,
    weight_bytes: float,
    bandwidth_bytes_per_s: float,
    peak_flops_per_s: float,
    published: float,
    prefill_share: float = 0.5,
    max_tokens: int | None = None,
    device: str = "the device",
) -> Bound:
    """REASON ÷ REFLECT at most, both up to their last token; `new_tokens` of 1 is the ratio of TTFTs.

    Arguments
    ---------
    params: weights that take part in computing a token, two operations each.
    prefill_share: the part of the device's peak that computing a prompt reaches at least.
    max_tokens: of the model's context; the ceiling there is told in the condition.

    Raises
    ------
    ValueError: an input is not positive, or a share above 1.
    """
    rates = (params, weight_bytes, bandwidth_bytes_per_s, peak_flops_per_s, published, prefill_share)
    if min(prompt_tokens, new_tokens, *rates) <= 0 or not prefill_share <= 1:
        raise ValueError("every amount is above 0, and prefill_share is a part of the peak")
    decode_s = weight_bytes / bandwidth_bytes_per_s
    token_s = 2 * params / (peak_flops_per_s * prefill_share)
    rest_s = (new_tokens - 1) * decode_s

    def at(prompt: float) -> float:
        return (max(prompt * token_s, decode_s) + rest_s) / (rest_s + decode_s)

    needed = math.ceil((published * new_tokens - new_tokens + 1) * decode_s / token_s)
    beyond = ""
    if max_tokens is not None and needed > max_tokens:
        beyond = f", beyond the model's {max_tokens:,}, where the ceiling is {at(max_tokens):.2f}×"
    value, prefill_ms = at(prompt_tokens), 1e3 * max(prompt_tokens * token_s, decode_s)
    return Bound(
        name="reflect_ratio",
        side="at_most",
        value=value,
        unit="times",
        inputs={
            "prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "params": params, "device": device,
            "weight_bytes": weight_bytes, "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
            "peak_flops_per_s": peak_flops_per_s, "prefill_share": prefill_share,
            "published": published, "max_tokens": max_tokens,
        },
        arithmetic=(
            f"({prefill_ms:.3g} ms for {prompt_tokens:,} tokens of prompt at {prefill_share:.0%} of the peak "
            f"({device}) + {new_tokens - 1} × {1e3 * decode_s:.3g} ms) ÷ ({new_tokens} × "
            f"{1e3 * decode_s:.3g} ms) ≤ {value:.2f}×"
        ),
        condition=f"{published:g}× are possible from {needed:,} tokens of prompt on{beyond}",
    )  # fmt: skip


def density_ratio(
    *,
    capacity_bytes: float,
    weight_bytes: float,
    kv_bytes: float,
    most_agents: int,
    published: float,
    own_agents: int | None = None,
) -> Bound:
    """Agents over shared weights ÷ agents with a model each, at most, where no more than `most_agents` run.

    Arguments
    ---------
    own_agents: that fit with a model each, where the source says so itself; else ⌊C ÷ (W + kv)⌋.

    Raises
    ------
    ValueError: an amount is not positive, or not even one agent fits.
    """
    if min(capacity_bytes, weight_bytes, kv_bytes, most_agents, published) <= 0:
        raise ValueError("every amount is above 0")
    each = weight_bytes + kv_bytes
    own = math.floor(capacity_bytes / each) if own_agents is None else own_agents
    held = math.floor((capacity_bytes - weight_bytes) / kv_bytes)
    if own < 1:
        raise ValueError(f"not one agent of {each:,.0f} bytes fits into {capacity_bytes:,.0f}")
    shared = min(most_agents, held)
    sum_of = f"⌊{capacity_bytes / 1e9:g} GB ÷ {each / 1e9:.4g} GB⌋ = {own}"
    who = f"{own} with a model each" if own_agents is not None else f"{sum_of} with a model each"
    return Bound(
        name="density_ratio",
        side="at_most",
        value=shared / own,
        unit="times",
        inputs={
            "capacity_bytes": capacity_bytes,
            "weight_bytes": weight_bytes,
            "kv_bytes": kv_bytes,
            "most_agents": most_agents,
            "published": published,
            "own_agents": own_agents,
        },
        arithmetic=f"{shared} agents at most over shared weights, {who}: ≤ {shared / own:.3g}×",
        condition=(
            f"{published:g}× are possible with {math.ceil(published * own)} sessions or more (memory holds "
            f"⌊(C − W) ÷ kv⌋ = {held}), or where no more than {math.floor(shared / published)} "
            f"with a model each fit"
        ),
    )


def refused_at(
    *,
    capacity_bytes: float,
    weight_bytes: float,
    kv_bytes: float,
    published: float,
    process_bytes: float = 0.0,
    dtype: str = "",
) -> Bound:
    """The first agent that finds no memory, each with a model of its own, at the earliest.

    Arguments
    ---------
    process_bytes: what a process takes beside weights, keys and values, at most.

    Raises
    ------
    ValueError: an amount is not positive.
    """
    if min(capacity_bytes, weight_bytes, kv_bytes, published) <= 0 or process_bytes < 0:
        raise ValueError("every amount is above 0")
    each = weight_bytes + kv_bytes + process_bytes
    fit = math.floor(capacity_bytes / each)
    named = f" ({dtype})" if dtype else ""
    return Bound(
        name="refused_at",
        side="at_least",
        value=float(fit + 1),
        unit="agents",
        inputs={
            "capacity_bytes": capacity_bytes,
            "weight_bytes": weight_bytes,
            "kv_bytes": kv_bytes,
            "process_bytes": process_bytes,
            "published": published,
            "dtype": dtype,
        },
        arithmetic=(
            f"{capacity_bytes / 1e9:g} GB hold {fit} agents of {weight_bytes / 1e9:.4g} GB of weights"
            f"{named}, {kv_bytes / 1e9:.2g} GB of keys and values and {process_bytes / 1e9:g} GB more; "
            f"the first to be refused is number {fit + 1}"
        ),
        condition=(
            f"number {published:g} is refused where each takes more than "
            f"{capacity_bytes / published / 1e9:.3g} GB, or on a device below {published * each / 1e9:.3g} GB"
        ),
    )


def latency_ratio(
    *,
    slow_s: float,
    tokens: float,
    weight_bytes: float,
    bandwidth_bytes_per_s: float,
    published: float,
    device: str = "the device",
) -> Bound:
    """How many times as fast as a step of `slow_s` one can be that decodes so many tokens.

    Raises
    ------
    ValueError: an input is not positive.
    """
    if min(slow_s, tokens, weight_bytes, bandwidth_bytes_per_s, published) <= 0:
        raise ValueError("every amount is above 0")
    floor_s = tokens * weight_bytes / bandwidth_bytes_per_s
    return Bound(
        name="latency_ratio",
        side="at_most",
        value=slow_s / floor_s,
        unit="times",
        inputs={
            "slow_s": slow_s,
            "tokens": tokens,
            "weight_bytes": weight_bytes,
            "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
            "published": published,
            "device": device,
        },
        arithmetic=(
            f"{slow_s:g} s ÷ ({tokens:g} tokens × {weight_bytes / 1e9:.4g} GB ÷ "
            f"{bandwidth_bytes_per_s / 1e12:.4g} TB/s ({device}) = {floor_s:.3g} s) ≤ {slow_s / floor_s:.3g}×"
        ),
        condition=f"{published:g}× are possible where the slower step takes ≥ {published * floor_s:.3g} s",
    )
