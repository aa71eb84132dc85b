"""The task families that the pocket models are trained on and graded by."""

from __future__ import annotations

from harness.models.tasks.base import Example, Family, examples, held_out
from harness.models.tasks.columns import Columns
from harness.models.tasks.defects import Analyse, Repair
from harness.models.tasks.extract import Extract
from harness.models.tasks.flow import Brief, Fix, Summary
from harness.models.tasks.headlines import Headline
from harness.models.tasks.pipelines import Code

__all__ = ["FAMILIES", "Example", "Family", "examples", "held_out"]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (Extract(), Headline(), Code(), Analyse(), Repair(), Columns(), Brief(), Fix(), Summary())
}
"""Every family by name, in the order of the card."""
