"""Bounds of switching: what a total leaves for a transfer, what an arena holds, and what a count says.

A request's total holds its switch and its computing, and computing a token reads every weight that takes part
in it once. What is evicted was resident, and what is resident fits the arena. Shares of 30 requests are whole
requests.

    time_left        the seconds that a stated total leaves for a switch at most, beside its decoding
    copies_s         the seconds that a request takes at most, by the bytes that it copies at a stated rate
    cold_hits        the share of hits at most, where no model was there before its first request
    evictable        the bytes that an eviction frees at most: what is resident
    room_needed      the bytes that have to go at most, for one model to come
    whole_requests   how many requests a rounded share of them is at least
    sum_of_parts     how long a whole takes at least whose parts follow one another

Trap: `copies_s` is a ceiling only for copies that reach the rate; it is taken from the source's own numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from reports.bounds.base import Bound

__all__ = [
    "cold_hits",
    "copies_s",
    "evictable",
    "room_needed",
    "sum_of_parts",
    "time_left",
    "whole_requests",
]


def time_left(
    *,
    total_s: float,
    tokens: float,
    weight_bytes: float,
    bandwidth_bytes_per_s: float,
    published_s: float,
    device: str = "the device",
) -> Bound:
    """The seconds of a stated total that are left for a switch, when tokens are decoded at their floor.

    Arguments
    ---------
    weight_bytes: that a token reads at least; of the smallest model, which helps the claim.

    Raises
    ------
    ValueError: an input is not positive, or decoding alone takes longer than the total.
    """
    _positive(total_s, tokens, weight_bytes, bandwidth_bytes_per_s, published_s)
    decode_s = tokens * weight_bytes / bandwidth_bytes_per_s
    if decode_s >= total_s:
        raise ValueError(f"decoding takes {decode_s:.3g} s of a total of {total_s:g} s")
    value = total_s - decode_s
    return Bound(
        name="time_left",
        side="at_most",
        value=value,
        unit="s",
        inputs={
            "total_s": total_s, "tokens": tokens, "weight_bytes": weight_bytes,
            "bandwidth_bytes_per_s": bandwidth_bytes_per_s, "published_s": published_s, "device": device,
        },
        arithmetic=(
            f"{total_s:g} s in total − {tokens:g} tokens × {weight_bytes / 1e9:.4g} GB ÷ "
            f"{bandwidth_bytes_per_s / 1e12:.4g} TB/s ({device}) = {value:.4g} s at most, "
            f"not {published_s:g} s"
        ),
        condition=(
            f"possible where the total is {published_s + decode_s:.4g} s or more, or with at most "
            f"{max(0, math.floor((total_s - published_s) / (decode_s / tokens)))} of the {tokens:g} tokens"
        ),
    )  # fmt: skip


def copies_s(
    *,
    out_bytes: float,
    in_bytes: float,
    bytes_per_s: float,
    compute_s: float,
    published_s: float,
    rate_from: str = "",
) -> Bound:
    """The seconds of a request that copies so much out, then in, at a rate, and then computes so long.

    Arguments
    ---------
    bytes_per_s: that copies reach at least. rate_from: how it is known.

    Raises
    ------
    ValueError: an input is not positive, or computing alone takes as long as was published.
    """
    _positive(out_bytes, in_bytes, bytes_per_s, compute_s, published_s - compute_s)
    moved = out_bytes + in_bytes
    value = moved / bytes_per_s + compute_s
    needed = moved / (published_s - compute_s)
    named = f" ({rate_from})" if rate_from else ""
    return Bound(
        name="copies_s",
        side="at_most",
        value=value,
        unit="s",
        inputs={
            "out_bytes": out_bytes, "in_bytes": in_bytes, "bytes_per_s": bytes_per_s, "compute_s": compute_s,
            "published_s": published_s, "rate_from": rate_from,
        },
        arithmetic=(
            f"({out_bytes / 1e9:g} GB out + {in_bytes / 1e9:g} GB in) ÷ {bytes_per_s / 1e9:.3g} GB/s{named} "
            f"+ {compute_s:g} s of computing = {value:.3g} s at most, not {published_s:.3g} s"
        ),
        condition=f"possible where copies reach no more than {needed / 1e9:.3g} GB/s, or copy more",
    )  # fmt: skip


def cold_hits(*, requests: int, models: int) -> Bound:
    """The share of requests that can hit when nothing is resident at first, whatever the arena holds.

    Raises
    ------
    ValueError: there are no models, or fewer requests than models.
    """
    if not 1 <= models <= requests:
        raise ValueError(f"{requests} requests for {models} models")
    value = (requests - models) / requests
    return Bound(
        name="cold_hits",
        side="at_most",
        value=value,
        unit="share of requests",
        inputs={"requests": requests, "models": models},
        arithmetic=(
            f"each of {models} models misses once: ({requests} − {models}) ÷ {requests} = {value:.0%} at most"
        ),
        condition="more is possible only where models are loaded before the first request that counts",
    )


def evictable(*, resident_bytes: Mapping[str, float], published_bytes: float, when: str = "") -> Bound:
    """The bytes that an eviction can free: no more than the models that are there.

    Arguments
    ---------
    when: that these are all that can be there, in words.

    Raises
    ------
    ValueError: no model is there, or a size is not positive.
    """
    if not resident_bytes:
        raise ValueError("name at least one model with its bytes")
    _positive(*resident_bytes.values(), published_bytes)
    value = sum(resident_bytes.values())
    parts = " + ".join(f"{_gb(size)} ({name})" for name, size in resident_bytes.items())
    whole = f" = {_gb(value)}" if len(resident_bytes) > 1 else ""
    return Bound(
        name="evictable",
        side="at_most",
        value=value,
        unit="B",
        inputs={"resident_bytes": dict(resident_bytes), "published_bytes": published_bytes, "when": when},
        arithmetic=f"{when or 'resident'}: {parts}{whole} at most can go, not {_gb(published_bytes)}",
        condition=f"possible where {_gb(published_bytes)} of other models had been loaded before",
    )


def room_needed(
    *, model_bytes: float, resident_bytes: float, arena_bytes: float, published_bytes: float
) -> Bound:
    """The bytes that have to go for a model to come, into an arena that holds so many of others.

    Raises
    ------
    ValueError: a size is not positive, or more is resident than the arena holds.
    """
    _positive(model_bytes, resident_bytes, arena_bytes, published_bytes)
    free = arena_bytes - resident_bytes
    if free < 0:
        raise ValueError(f"{resident_bytes:g} bytes are resident in an arena of {arena_bytes:g}")
    value = max(0.0, model_bytes - free)
    return Bound(
        name="room_needed",
        side="at_most",
        value=value,
        unit="B",
        inputs={
            "model_bytes": model_bytes,
            "resident_bytes": resident_bytes,
            "arena_bytes": arena_bytes,
            "published_bytes": published_bytes,
        },
        arithmetic=(
            f"{_gb(arena_bytes)} − {_gb(resident_bytes)} = {_gb(free)} are free, so {_gb(model_bytes)} − "
            f"{_gb(free)} = {_gb(value)} have to go, not {_gb(published_bytes)}"
        ),
        condition="more goes only where a policy evicts whole models that it did not have to",
    )


def whole_requests(*, share: float, of: int, rounded_to: float = 0.01, published: float) -> Bound:
    """How many of so many requests a share is at least that was rounded to its last digit.

    Raises
    ------
    ValueError: the share is none, or there are no requests.
    """
    if not 0 < share <= 1 or of < 1 or rounded_to < 0:
        raise ValueError(f"{share:g} of {of} requests is no share")
    least = max(0.0, share - rounded_to / 2)
    value = math.ceil(least * of - 1e-9)
    return Bound(
        name="whole_requests",
        side="at_least",
        value=float(value),
        unit="requests",
        inputs={"share": share, "of": of, "rounded_to": rounded_to, "published": published},
        arithmetic=f"{share:.0%} of {of} requests are {value} at least, not {published:g}",
        condition=f"{published:g} of {of} requests would be {published / of:.1%}",
    )


def sum_of_parts(*, parts: Mapping[str, float], published: float, unit: str = "s") -> Bound:
    """How long a whole takes at least whose named parts follow one another.

    Raises
    ------
    ValueError: no part is named, or one is not positive.
    """
    if not parts:
        raise ValueError("name at least one part")
    _positive(*parts.values(), published)
    value = sum(parts.values())
    listed = " + ".join(f"{part:g} ({name})" for name, part in parts.items())
    return Bound(
        name="sum_of_parts",
        side="at_least",
        value=value,
        unit=unit,
        inputs={"parts": dict(parts), "published": published, "unit": unit},
        arithmetic=f"{listed} = {value:g} {unit}, not {published:g} {unit}",
        condition=f"possible where the parts run beside each other, or take {published / value:.0%} as long",
    )


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.4g} GB"


def _positive(*values: float) -> None:
    if any(not value > 0 for value in values):
        raise ValueError("every amount is above 0")
