"""Bounds of decoding, and of a link that its state has to cross.

A decoded token of one sequence reads every weight once, so it takes at least weights ÷ memory bandwidth, and
a stated time per token says how fast the memory was read. A mode that leaves state on the far side of a link
pays bytes ÷ link for each token on top: against one that sends ids alone it is 1 + bytes ÷ (link × time per
token) times as slow.

Trap: the last is a ceiling only for transfers that use the link. A ratio of two programs has none, since the
slower one can always be slower: `link_share` says how badly the link may be used, packing included.
"""

from __future__ import annotations

from reports.bounds.base import Bound

__all__ = ["link_ratio", "link_ratio_least", "token_floor", "weight_traffic"]


def token_floor(
    *,
    weight_bytes: float,
    bandwidth_bytes_per_s: float,
    published_s: float,
    tokens: float = 1,
    device: str = "the device",
    what: str = "weights alone",
) -> Bound:
    """The seconds that decoded tokens take at least, one after another, by the weights that each reads.

    Arguments
    ---------
    what: `weight_bytes` stand for, in words, where more than weights is read.

    Raises
    ------
    ValueError: an input is not positive.
    """
    _positive(weight_bytes, bandwidth_bytes_per_s, published_s, tokens)
    value = tokens * weight_bytes / bandwidth_bytes_per_s
    several = "" if tokens == 1 else f"{tokens:g} tokens × "
    return Bound(
        name="token_floor",
        side="at_least",
        value=value,
        unit="s",
        inputs={
            "weight_bytes": weight_bytes,
            "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
            "published_s": published_s,
            "tokens": tokens,
            "device": device,
            "what": what,
        },
        arithmetic=(
            f"{several}{weight_bytes / 1e9:.4g} GB ÷ {bandwidth_bytes_per_s / 1e12:.4g} TB/s ({device}) = "
            f"{1e3 * value:.3g} ms, {what}"
        ),
        condition=(
            f"{1e3 * published_s:g} ms are possible from "
            f"{tokens * weight_bytes / published_s / 1e9:,.0f} GB/s on, or with fewer bytes of weights"
        ),
    )


def weight_traffic(*, weight_bytes: float, token_s: float, published_bytes_per_s: float) -> Bound:
    """The rate at which a device's memory was read at least, if a token took so long.

    Raises
    ------
    ValueError: an input is not positive.
    """
    _positive(weight_bytes, token_s, published_bytes_per_s)
    value = weight_bytes / token_s
    needed_s = weight_bytes / published_bytes_per_s
    return Bound(
        name="weight_traffic",
        side="at_least",
        value=value,
        unit="B/s",
        inputs={
            "weight_bytes": weight_bytes,
            "token_s": token_s,
            "published_bytes_per_s": published_bytes_per_s,
        },
        arithmetic=(
            f"{weight_bytes / 1e9:.4g} GB of weights ÷ {1e3 * token_s:g} ms per token = "
            f"{value / 1e9:,.0f} GB/s, not {published_bytes_per_s / 1e9:g} GB/s"
        ),
        condition=f"possible at {needed_s:.3g} s per token, or as the traffic of something else than memory",
    )


def link_ratio(
    *,
    bytes_per_token: float,
    link_bps: float,
    token_s: float,
    published: float,
    link_share: float = 1.0,
    what: str = "state",
) -> Bound:
    """How many times as slow a token becomes at most when so many bytes cross a link for it.

    Arguments
    ---------
    token_s: of the mode that sends ids alone, at least; the less, the larger the ratio.
    link_share: the part of the link's rate that transfers reach at least.

    Raises
    ------
    ValueError: an input is not positive, or a share above 1.
    """
    _positive(bytes_per_token, link_bps, token_s, published - 1, link_share)
    if link_share > 1:
        raise ValueError(f"link_share is {link_share:g}, a part of the link's rate")
    crossing_s = 8 * bytes_per_token / (link_bps * link_share)
    value = 1 + crossing_s / token_s
    share = "" if link_share == 1 else f" at {link_share:.0%} of its rate"
    enough_bps = 8 * bytes_per_token / (token_s * (published - 1))
    return Bound(
        name="link_ratio",
        side="at_most",
        value=value,
        unit="times",
        inputs={
            "bytes_per_token": bytes_per_token,
            "link_bps": link_bps,
            "token_s": token_s,
            "published": published,
            "link_share": link_share,
            "what": what,
        },
        arithmetic=(
            f"1 + {_size(bytes_per_token)} of {what} × 8 ÷ ({link_bps / 1e9:g} Gbps{share} × "
            f"{1e3 * token_s:.3g} ms) = {value:.3g}×"
        ),
        condition=(
            f"{published:g}× are possible where transfers, copying included, reach no more than "
            f"{enough_bps / 1e9:.3g} Gbps, {enough_bps / link_bps:.3g} of the link's rate"
        ),
    )


def link_ratio_least(
    *, bytes_per_token: float, link_bps: float, token_s: float, published: float, what: str = "state"
) -> Bound:
    """How many times as slow a token becomes at least; `token_s`, of the mode that sends ids alone, at most.

    Raises
    ------
    ValueError: an input is not positive.
    """
    _positive(bytes_per_token, link_bps, token_s, published)
    crossing_s = 8 * bytes_per_token / link_bps
    value = crossing_s / token_s
    return Bound(
        name="link_ratio_least",
        side="at_least",
        value=value,
        unit="times",
        inputs={
            "bytes_per_token": bytes_per_token,
            "link_bps": link_bps,
            "token_s": token_s,
            "published": published,
            "what": what,
        },
        arithmetic=(
            f"{_size(bytes_per_token)} of {what} × 8 ÷ {link_bps / 1e9:g} Gbps = {crossing_s:.3g} s "
            f"per token, ÷ {1e3 * token_s:g} ms = {value:.3g}×"
        ),
        condition=(
            f"as little as {published:g}× is possible if the fast mode takes "
            f"{1e3 * crossing_s / published:.3g} ms per token or more, or on a link of "
            f"{value / published * link_bps / 1e9:,.0f} Gbps"
        ),
    )


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.4g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.4g} MB"


def _positive(*values: float) -> None:
    if any(not value > 0 for value in values):
        raise ValueError("every amount is above 0, and a ratio above 1")
