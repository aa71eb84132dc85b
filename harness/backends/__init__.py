"""Engines: one protocol, one module per way of speaking to one.

=============  =====================  ===============================================================
module         backend                speaks to
=============  =====================  ===============================================================
`openai`       `OpenAIBackend`        any server with the OpenAI API
`llamacpp`     `LlamaCppBackend`      llama.cpp's server, embedded or elsewhere
`sglang`       `SGLangBackend`        SGLang's server
`vllm`         `VLLMBackend`          vLLM's server
`ollama`       `OllamaBackend`        Ollama, by its own API
`transformers` `TransformersBackend`  PyTorch in this process, through the transformers library
`simulated`    `SimulatedBackend`     a simulation of published constants, in virtual time or real
`fake`         `FakeBackend`          nobody: it answers from a script, for tests
`memo`         `MemoBackend`          another backend, once per greedy request
=============  =====================  ===============================================================

`base` is the protocol, `spec` reads `--backend ROLE=SPEC`, `connect` makes launcher and backend of it. `http`
is what clients of any server share: `sse` and `ndjson` take streams apart, `answer` and `ollama_answer` put
answers together, `schema` checks them, `prometheus` reads counters, `slowing` delays answers on purpose. The
backends themselves are imported from their modules, so that what one needs is not needed by all.
"""

from __future__ import annotations

from harness.backends.base import (
    Backend,
    Batch,
    BatchSampler,
    CacheFlusher,
    Chunk,
    Completion,
    EngineTimes,
    Message,
    Metered,
    OnChunk,
    Request,
    Sleeper,
)
from harness.backends.connect import Connection, backend_for, connect, launcher_for, told_random
from harness.backends.spec import BackendSpec, parse_backend

__all__ = [
    "Backend",
    "BackendSpec",
    "Batch",
    "BatchSampler",
    "CacheFlusher",
    "Chunk",
    "Completion",
    "Connection",
    "EngineTimes",
    "Message",
    "Metered",
    "OnChunk",
    "Request",
    "Sleeper",
    "backend_for",
    "connect",
    "launcher_for",
    "parse_backend",
    "told_random",
]
