"""Models that are loaded and unloaded under a budget: embedded, of an Ollama server, simulated, kept."""

from harness.routers.orchestration.loadable.base import HeldOnce, Loadable, Measured
from harness.routers.orchestration.loadable.embedded import EmbeddedModel, gguf_bytes
from harness.routers.orchestration.loadable.kept import KeptModel
from harness.routers.orchestration.loadable.ollama import OllamaModel
from harness.routers.orchestration.loadable.simulated import DrawnOutcomes, SimulatedModel

__all__ = [
    "DrawnOutcomes",
    "EmbeddedModel",
    "HeldOnce",
    "KeptModel",
    "Loadable",
    "Measured",
    "OllamaModel",
    "SimulatedModel",
    "gguf_bytes",
]
