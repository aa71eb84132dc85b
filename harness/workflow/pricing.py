"""Which price a backend's answers have: the registry's, by whichever name the server gives the model."""

from __future__ import annotations

import re

from harness import models
from harness.backends import BackendSpec
from harness.workflow.cost import EngineTimePrice, Price, TokenPrice, UnknownPrice

__all__ = ["price_of"]

VCPU_PRICE = "vcpu"


def price_of(spec: BackendSpec, model: str) -> Price:
    """List price for a model that has one, engine time for a pocket model on our own cores, else unknown.

    A model without a price has an unknown cost; a [[token_price]] row in the registry gives it one.
    """
    prices = models.prices()
    row = next((row for name, row in prices.tokens.items() if _is_same_model(name, model)), None)
    if row is not None and not spec.is_embedded:
        return TokenPrice(
            input_usd_per_mtok=row.usd_per_million_input, output_usd_per_mtok=row.usd_per_million_output
        )
    if not (spec.is_embedded or spec.model in models.names(kind="pocket")) or spec.is_simulated:
        return UnknownPrice()
    vcpus = spec.options.get("threads", 1)
    return EngineTimePrice(usd_per_vcpu_hour=prices.compute[VCPU_PRICE].usd_per_hour, vcpus=vcpus)


def _is_same_model(row: str, served: str) -> bool:
    """Whether a price row is about the model that a server names, as "owner/Name", "name:tag" or a path.

    Ollama's tags leave the version out: `mistral:7b-instruct` is a Mistral-7B-Instruct of some version.
    """
    name = served.rstrip("/").rpartition("/")[2].lower()
    unversioned = re.sub(r"-v[0-9.]+$", "", row.lower())
    return name == row.lower() or (":" in name and name.replace(":", "-") == unversioned)
