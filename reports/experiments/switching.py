"""What became of the requests of each arm.

Read of a live record: its sweep's points named "request", one per request, with the side that they belong to,
their round, times and bytes; of its rounds what is paired with the control. A control that was measured
beside several arms counts as the arm that it is, where most requests were.

Traps. Requests of one round share a trace and what was resident, so that intervals of pooled quantiles draw
rounds, and not requests, again; with few rounds there is none. Of merged sessions of what stays up, each one
gives one quantile, and intervals are over sessions. A p99 needs 368 requests; p99 of one trace of
30 is its maximum. A miss is partial where some of the model's bytes had not to be copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.records import Record, Values
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from reports.stats import Interval

__all__ = [
    "ARMS",
    "CONTROL",
    "DEFAULT",
    "EXPERIMENT",
    "FORESEEING",
    "MODES",
    "SOURCE",
    "Arm",
    "arms",
    "faster",
    "in_order",
    "is_simulated",
    "mode",
    "moved",
    "needed",
    "scope",
    "sizes",
    "span",
    "where",
]

EXPERIMENT = "switching"
CONTROL, DEFAULT, SOURCE = "reload-every", "home-slot", "fifo-ring-copy-out"
"""What every arm is paired with, the product's default, and the published system's policy."""
ARMS = (
    *(CONTROL, "fresh", "serverless-warm", "serverless-cold", "vllm-recreate", "vllm-sleep"),
    *("process-per-model", "keep-last", SOURCE, "fifo-ring", "lru", "gdsf", "chunk-lru", "chunk-slots"),
    *("chunk-slots-lookahead", "home-slot-blind", "home-slot-sync", DEFAULT, "home-slot-lookahead"),
    *("belady", "resident"),
)
"""In the order in which they are shown: baselines, whole models, chunks, bounds. Others follow."""
MODES = ("hit", "partial miss", "full miss", "not known")
REQUEST, SIMULATED = "request", "sim-"
FORESEEING = "sim-belady"
"""The variant whose tasks pair the default with an arm that knows every request to come."""
LENGTHS = (("prompt_tokens", "prompt"), ("new_tokens", "new"))


class Arm(NamedTuple):
    """One arm, over all of its rounds."""

    name: str
    record: Record
    side: str
    """The arm of the record that it is: "treatment" or "control"."""
    requests: tuple[Mapping[str, Any], ...]

    @property
    def rounds(self) -> list[Values]:
        """The metrics of every round that did not fail."""
        found = (getattr(one, self.side) for one in self.record.rounds)
        return [values for values in found if values is not None]

    @property
    def seeds(self) -> int:
        """Rounds that have requests; each is a trace of its own."""
        return len({one.get("round") for one in self.requests})

    @property
    def completed(self) -> int:
        """Requests that got their last token; by the rounds' shares where points do not say who failed."""
        told = [(share, self._each) for values in self.rounds if (share := values.get("completed_share"))]
        if told and self._each and not any("failure" in one for one in self.requests):
            return sum(round(share * (each or 0)) for share, each in told)
        return len(self.answered)

    @property
    def answered(self) -> list[Mapping[str, Any]]:
        """Requests that did not fail: of others times are those of giving up."""
        return [one for one in self.requests if not one.get("failure") and one.get("total_s") is not None]

    @property
    def _each(self) -> int | None:
        each = self.record.settings.get("requests")
        return each if isinstance(each, int) else None

    @property
    def planned(self) -> int | None:
        """Requests that were to be answered; None where the record does not say."""
        return self._each * len(self.record.rounds) if self._each and self.record.rounds else None

    def values(self, key: str) -> list[float]:
        """A number of every request that was answered and has it."""
        return [float(v) for one in self.answered if (v := one.get(key)) is not None]

    def mean(self, metric: str) -> float | None:
        """A metric's mean over the rounds that have it."""
        known = [v for values in self.rounds if (v := values.get(metric)) is not None]
        return sum(known) / len(known) if known else None

    def quantiles(self, key: str, shares: Sequence[float]) -> list[Estimate]:
        """Nearest-rank quantiles over answered requests, with 95 % intervals over rounds (`pooled`).

        Where sessions are the observations, the mean of theirs, over sessions. One that its requests do not
        support has no value; with too few rounds or sessions none has an interval.
        """
        from reports.intervals.launches import is_by_launch

        known = [one for one in self.answered if one.get(key) is not None]
        if is_by_launch(self.record):
            pairs = [(float(one[key]), one.get("session") or 0) for one in known]
            return [_quantile_of_sessions(pairs, share) for share in shares]
        by_round: dict[Any, list[float]] = {}
        for one in known:
            by_round.setdefault(one.get("round"), []).append(float(one[key]))
        return [_quantile(list(by_round.values()), share) for share in shares]

    def modes(self, whole: Mapping[str, int]) -> Counter[str]:
        """Answered requests by how much of their model was missing; `whole` is each model's bytes."""
        return Counter(mode(one, whole) for one in self.answered)


def is_simulated(record: Record) -> bool:
    """Whether a record holds points of the simulator."""
    return record.variant.startswith(SIMULATED)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Arms in the order of `ARMS`, each once; those that it does not know follow."""
    once = dict.fromkeys(names)
    return tuple(sorted(once, key=lambda name: ARMS.index(name) if name in ARMS else len(ARMS)))


def arms(records: Iterable[Record]) -> list[Arm]:
    """Every arm that answered requests of a trace on its own, in the order of `ARMS`."""
    found: dict[str, Arm] = {}
    for record in records:
        if record.experiment != EXPERIMENT or is_simulated(record) or record.control not in (None, CONTROL):
            continue
        for name, side in ((record.variant, "treatment"), (record.control, "control")):
            requests = tuple(
                p for p in record.sweep if p.get("name") == REQUEST and p.get("arm", "treatment") == side
            )
            if name is None or not requests:
                continue
            if name not in found or len(requests) > len(found[name].requests):
                found[name] = Arm(name, record, side, requests)
    return [found[name] for name in in_order(found)]


def sizes(found: Iterable[Arm]) -> dict[str, int]:
    """Model → its bytes: as the settings say, or the most that a request for it copied."""
    out: dict[str, int] = {}
    for arm in found:
        told = arm.record.settings.get("model_bytes")
        if isinstance(told, Mapping):
            out |= {str(name): int(size) for name, size in told.items()}
        else:
            for one in arm.requests:
                out[one["model"]] = max(out.get(one["model"], 0), int(one.get("bytes_in") or 0))
    return out


def mode(request: Mapping[str, Any], whole: Mapping[str, int]) -> str:
    """How much of its model a request had to wait for, of `MODES`."""
    if request.get("is_hit"):
        return MODES[0]
    if request.get("is_hit") is None or request.get("bytes_in") is None:
        return MODES[3]
    return MODES[1] if request["bytes_in"] < whole.get(str(request.get("model")), 0) else MODES[2]


def moved(values: Mapping[str, Any]) -> float | None:
    """Bytes from host to device of a round or request, ahead of its turn or not."""
    own, ahead = values.get("bytes_in"), values.get("ahead_bytes")
    return None if own is None else own + (ahead or 0)


def faster(arm: Arm, metric: str) -> Interval | None:
    """How many times as long the control took, by paired rounds or sessions; None where they do not say."""
    from reports.intervals.estimates import rounds_log_ratio
    from reports.stats import Unsupported, as_ratio

    if arm.side != "treatment" or arm.record.control != CONTROL:
        return None
    found = rounds_log_ratio((metric,), arm.record)
    return None if isinstance(found, Unsupported) else as_ratio(found, inverse=True)


def needed(share: float) -> int:
    """The fewest requests that support a quantile."""
    from reports.intervals.quantiles import needed_for

    return needed_for(share)


def scope(found: Sequence[Arm]) -> str:
    """What live arms hold for: models, arena, link, tokens, seeds, profile and evidence."""
    settings = found[0].record.settings
    seeds = sorted({arm.seeds for arm in found})
    lengths = [f"{settings[k]} {word}" for k, word in LENGTHS if settings.get(k) is not None]
    parts = [
        ", ".join(dict.fromkeys(label for arm in found for label in arm.record.models.values())),
        _arena(settings),
        f"declared link {settings['link_gb_s']:g} GB/s" if settings.get("link_gb_s") else "link as it is",
        f"{' + '.join(lengths)} tokens" if lengths else "",
        _drawn(seeds, settings),
        f"warmed up: {settings['warm']}" if settings.get("warm") else "",
        "profile " + " and ".join(dict.fromkeys(arm.record.profile for arm in found)),
        " and ".join(dict.fromkeys(arm.record.evidence for arm in found)),
    ]
    return " · ".join(part for part in parts if part)


def where(found: Sequence[Arm]) -> str:
    """The scope in a few words, for a title."""
    link = found[0].record.settings.get("link_gb_s")
    profiles = " and ".join(dict.fromkeys(arm.record.profile for arm in found))
    return f"{profiles}, declared link of {link:g} GB/s" if link else f"{profiles}, link as it is"


def _arena(settings: Mapping[str, Any]) -> str:
    buffer = settings.get("buffer_mb")
    if buffer is not None and buffer < 1000:
        return f"arena {buffer:g} MB"
    return f"arena {settings['buffer_gb']:g} GB" if settings.get("buffer_gb") else ""


def _drawn(seeds: Sequence[int], settings: Mapping[str, Any]) -> str:
    """How many traces; a user's own is asked several times, and has no seeds."""
    requests = f"{settings.get('requests', '?')} requests, {settings.get('workload', '?')}"
    if settings.get("seeds") == 1 and seeds[-1] > 1:
        return f"{span(seeds)} rounds of the same {requests}"
    return f"{span(seeds)} {'seed' if seeds[-1] == 1 else 'seeds'} of {requests}"


def span(numbers: Sequence[int]) -> str:
    """The first and the last of rising numbers, as words."""
    ends = dict.fromkeys((numbers[0], numbers[-1]))
    return "–".join(str(number) for number in ends)


def _quantile(rounds: Sequence[Sequence[float]], share: float) -> Estimate:
    from reports.intervals.pooled import Arm as Pooled
    from reports.intervals.pooled import pooled_quantile
    from reports.stats import Unsupported

    ranked = sorted(v for one in rounds for v in one)
    if len(ranked) < needed(share):
        return Estimate(None, n=len(ranked))
    places = tuple(at for at, one in enumerate(rounds) for _ in one)
    found = pooled_quantile(Pooled(tuple(v for one in rounds for v in one), places), share)
    if isinstance(found, Unsupported):
        return Estimate(ranked[ceil(share * len(ranked) - 1e-9) - 1], n=len(ranked))
    return Estimate(found.estimate, found.low, found.high, len(ranked))


def _quantile_of_sessions(known: Sequence[tuple[float, int]], share: float) -> Estimate:
    """The mean of sessions' quantiles; where a session has too few requests for its own, of all of them."""
    from reports.intervals.launches import quantile_of_sessions, quantiles
    from reports.stats import Unsupported

    values, sessions = [value for value, _ in known], [session for _, session in known]
    if len(values) < needed(share):
        return Estimate(None, n=len(values))
    each = quantiles(values, sessions, share)
    if isinstance(each, Unsupported):
        return Estimate(sorted(values)[ceil(share * len(values) - 1e-9) - 1], n=len(values))
    found, value = quantile_of_sessions(values, sessions, share), fmean(each.values())
    if isinstance(found, Unsupported):
        return Estimate(value, n=len(each))
    return Estimate(value, *found.bounds(), len(each))
