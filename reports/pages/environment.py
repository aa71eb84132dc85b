"""The templates, and the few filters that they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.pages.steps import ClaimView, slug

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["environment"]

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """The templates, with everything escaped that is not markup of our own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "slug": slug,
        "svg": Markup,
        "code": _code,
        "forest": _forest,
        "exact": _exact,
        "signed": _signed,
    }
    made.globals["file"] = lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
    return made


def _code(text: str) -> Any:
    """Text with `names` in back quotes as code."""
    from markupsafe import Markup, escape

    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 and len(parts) % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def _forest(views: Sequence[ClaimView]) -> list[ClaimView]:
    """From the furthest beyond its threshold to the furthest short of it, without what is as stated."""
    return sorted((v for v in views if not _is_exact(v)), key=lambda v: -v.spot.at if v.spot else 0.0)


def _is_exact(v: ClaimView) -> bool:
    """Whether a claim says one number and every observation is that number: a dot on the line, 100 times."""
    return v.verdict.get("form") == "exact" and v.word == "confirmed"


def _exact(views: Sequence[ClaimView]) -> list[ClaimView]:
    return [v for v in views if _is_exact(v)]


def _signed(value: float | None, quantity: str) -> str:
    """A control's advantage: a difference as it is, a log ratio as a factor."""
    if value is None:
        return "–"
    return f"{value:+.3g}".replace("-", "−") if quantity == "difference" else f"{math.exp(value):.3g}×"
