"""The published models and links as data (`models.toml`), and how long their layers compute.

Physics: the forward pass of a chunk takes a share of the prefill by its bytes; the embedding is a look-up and
takes none. Decoding takes `token_s` per token whatever the link does, once the model is resident.

Limit: prefill is a roofline with a declared efficiency and decode comes from the seed's own total, so totals
at paper scale are simulated from published constants; they confirm nothing that would have to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path

from harness.errors import UsageError
from harness.residency.layout import ModelLayout
from harness.tables import read_file

__all__ = ["LinkRow", "ModelRow", "SimModel", "links", "many", "published"]

FILE = Path(__file__).with_name("models.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A `[[model]]` of `models.toml`."""

    name: str
    num_bytes: int
    layers: int
    embed_share: float
    head_share: float
    prefill_s: float
    token_s: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """A `[[link]]` of `models.toml`."""

    name: str
    bytes_per_s: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimModel:
    """A model as the simulator sees it: its layout and how long it computes."""

    layout: ModelLayout
    prefill_s: float
    """To the first token, with everything resident."""
    token_s: float
    """Each further token."""
    chunk_s: tuple[float, ...] = ()
    """Of the prefill, per chunk; by bytes, and none for the embedding, unless it is given."""
    from_here_s: tuple[float, ...] = field(init=False, repr=False)
    """From each chunk to the end of the prefill."""

    def __post_init__(self) -> None:
        layout = self.layout
        if not self.chunk_s:
            weights = [0 if chunk.name == "embed" else chunk.num_bytes for chunk in layout.chunks]
            whole = sum(weights) or 1
            object.__setattr__(self, "chunk_s", tuple(self.prefill_s * weight / whole for weight in weights))
        if len(self.chunk_s) != layout.num_chunks or min(*self.chunk_s, self.prefill_s, self.token_s) < 0:
            raise UsageError(
                f"{layout.name}: compute times are not one per chunk, or negative; give seconds ≥ 0"
            )
        object.__setattr__(self, "from_here_s", tuple(accumulate(reversed(self.chunk_s)))[::-1])


@cache
def published() -> Mapping[str, SimModel]:
    """The three published models, by name."""
    return {name: _model(row, name) for name, row in _rows()[0].items()}


@cache
def links() -> Mapping[str, LinkRow]:
    """The links, by name."""
    return _rows()[1]


@cache
def many(num_models: int) -> Mapping[str, SimModel]:
    """As many models as asked for: the published three in turn, told apart by a number.

    Raises
    ------
    UsageError: fewer than one.
    """
    if num_models < 1:
        raise UsageError(f"models: {num_models} asked for; ask for at least 1")
    rows = list(_rows()[0].values())
    names = [f"{rows[i % 3].name}-{i // 3}" if i > 2 else rows[i].name for i in range(num_models)]
    return {name: _model(rows[i % 3], name) for i, name in enumerate(names)}


@cache
def _rows() -> tuple[dict[str, ModelRow], dict[str, LinkRow]]:
    tables = read_file(FILE, {"model": ModelRow, "link": LinkRow})
    return tables["model"], tables["link"]


def _model(row: ModelRow, name: str) -> SimModel:
    embed_bytes, head_bytes = (round(row.num_bytes * share) for share in (row.embed_share, row.head_share))
    layout = ModelLayout.of_layers(
        name, row.layers, row.num_bytes, embed_bytes=embed_bytes, head_bytes=head_bytes
    )
    return SimModel(layout=layout, prefill_s=row.prefill_s, token_s=row.token_s)
