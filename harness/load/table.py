"""A load report as text of at most 100 columns."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

from harness.load.metrics import FORMULAS, SHARES, Distribution, Quantile
from harness.load.report import LoadReport

__all__ = ["text_of"]

WIDTH = 100
_NAME, _COLUMN = 22, 11
_OFFER_LESS = "The client was what was slow: offer less, use more workers, or free the machine"
_SEE = "See the errors"


def text_of(found: LoadReport) -> str:
    """The table, with the formulas beneath it, and first of all whether it is valid."""
    return "\n".join([*_head(found), "", *_latencies(found.latencies), "", *_rates(found), "", *_formulas()])


def _head(found: LoadReport) -> list[str]:
    window = found.window
    lines = [] if found.is_valid else _wrapped("INVALID: ", _remedy(found))
    outside = found.num_requests - found.num_counted
    lines += _wrapped("load     ", found.offered)
    lines += _wrapped(
        "counted  ",
        f"{found.num_counted} requests due in {window.start_s:g} to {window.end_s:.4g} s, "
        f"{found.num_failed} of them failed; {outside} more served and not counted",
    )
    lines += _wrapped(
        "tokens   ",
        f"prompt {_plain(found.prompt_tokens)}, output {_plain(found.output_tokens)} (means, by the server)",
    )
    share = found.cached_share
    cached = "not counted" if share is None else f"{share:.1%} of the prompt tokens"
    lines += _wrapped("cached   ", f"{cached} (by the server)")
    if found.seed is not None:
        lines += _wrapped("seed     ", f"{found.seed} (with --seed {found.seed} the same is asked again)")
    levels = ", ".join(f"{level:.1f}" for level in found.steadiness.in_flight)
    steady = "" if found.steadiness.is_steady else ": NOT STEADY, more is offered than served"
    lines += _wrapped("in flight", f" {levels} (mean of each quarter of the window){steady}")
    lines += _wrapped("client   ", found.client.observed)
    for error, number in found.errors.items():
        lines += _wrapped(f"{number} failed ", error)
    return lines


def _remedy(found: LoadReport) -> str:
    is_slow = found.num_failed < found.num_counted and not found.num_unsent
    return f"{found.client.observed}. {_OFFER_LESS if is_slow else _SEE}"


def _latencies(latencies: Mapping[str, Distribution]) -> list[str]:
    names = ["n", "mean*", *(f"p{share * 100:g}" for share in SHARES)]
    lines = ["latency, ms".ljust(_NAME) + "".join(name.rjust(_COLUMN) for name in names)]
    reasons: dict[str, None] = {}
    for name, row in latencies.items():
        cells = [str(row.n), _ms(row.mean), *(_ms(q.value) for q in row.quantiles)]
        lines.append(name.removesuffix("_s").ljust(_NAME) + "".join(cell.rjust(_COLUMN) for cell in cells))
        reasons |= dict.fromkeys(_why(q) for q in row.quantiles if q.why)
    lines += _wrapped("* ", "of those that were answered; in percentiles a failure is infinitely late")
    return lines + [line for reason in reasons for line in _wrapped("- ", reason)]


def _why(quantile: Quantile) -> str:
    return f"p{quantile.share * 100:g}: {quantile.why}"


def _rates(found: LoadReport) -> list[str]:
    rates, slo = found.rates, found.slo
    limits = ", ".join(
        f"{name.removesuffix('_s')} ≤ {v * 1e3:g} ms" for name, v in slo._asdict().items() if v
    )
    rows = {
        "request_throughput": f"{rates.request_throughput:.4g} requests/s",
        "output_throughput": f"{_plain(rates.output_throughput)} tokens/s",
        "goodput": f"{_plain(rates.goodput)} requests/s at {limits}" if slo else "- (give an SLO)",
        "tokens_per_chunk": _plain(rates.tokens_per_chunk),
    }
    lines = [line for name, value in rows.items() for line in _wrapped(name.ljust(_NAME), value)]
    return lines + (_wrapped("- ", rates.why) if rates.why else [])


def _formulas() -> list[str]:
    return [line for name, text in FORMULAS.items() for line in _wrapped(f"{name} = ", text)]


def _wrapped(head: str, text: str) -> list[str]:
    return wrap(head + text, WIDTH, subsequent_indent="    ", drop_whitespace=True)


def _ms(value_s: float | None) -> str:
    return "-" if value_s is None else f"{value_s * 1e3:.2f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
