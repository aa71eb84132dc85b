"""The default model: a Llama of 33.7 M random weights, the same for the same seed, made on the spot.

How long a step takes depends on the shapes and not on what the weights say, so it stands for a trained model
of its size in everything but text. It is made without the transformers library, whose import takes longer
than all the rest of a server's start; `random_llama` gives the same weights as that library has them.
"""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch

__all__ = ["DEFAULT_MODEL", "random_donor", "random_llama"]

DEFAULT_MODEL = "llama-34m"
_CONFIG: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 4096,
    # At transformers' 0.02, greedy answers soon repeat one token, and no two sessions could be told apart; at
    # 0.05 they go on.
    "initializer_range": 0.05,
    "rms_norm_eps": 1e-6,
    "bos_token_id": None,
    "eos_token_id": None,
}
_ROPE_THETA = 10_000.0


def random_donor(seed: int, device: str, dtype: torch.dtype, **changes: Any) -> Any:
    """The default model in the form that `weights.take_over` takes apart.

    Arguments: `changes`, fields of its configuration that are to differ, named as `LlamaConfig` names them;
    the head is never tied to the embedding.
    """
    config = SimpleNamespace(**{**_CONFIG, **changes}, model_type="llama", hidden_act="silu")
    state = {name: tensor.to(device=device, dtype=dtype) for name, tensor in _state(seed, config).items()}
    layers = [_layer(state, f"model.layers.{index}.") for index in range(config.num_hidden_layers)]
    head_dim = config.hidden_size // config.num_attention_heads
    powers = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    rotary = SimpleNamespace(
        inv_freq=(1.0 / _ROPE_THETA**powers).to(device), attention_scaling=1.0, rope_type="default"
    )
    body = SimpleNamespace(
        embed_tokens=_part(state, "model.embed_tokens"),
        layers=layers,
        norm=_part(state, "model.norm"),
        rotary_emb=rotary,
    )
    return SimpleNamespace(config=config, model=body, lm_head=_part(state, "lm_head"))


def random_llama(seed: int = 0, **changes: Any) -> Any:
    """The default model as the transformers library has it.

    Arguments: `changes`, fields of its `LlamaConfig` that are to differ; the weights are then that library's
    own choice, the same for the same seed.
    """
    transformers: Any = import_module("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**_CONFIG, **changes})).eval()
    if not changes:
        model.load_state_dict(_state(seed, SimpleNamespace(**_CONFIG)))
    return model


def _state(seed: int, config: Any) -> dict[str, torch.Tensor]:
    """Weights by their names in a checkpoint, drawn in this order."""
    draws = torch.Generator().manual_seed(seed)
    width, ffn, vocab_size = config.hidden_size, config.intermediate_size, config.vocab_size
    kv_width = width // config.num_attention_heads * config.num_key_value_heads
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (vocab_size, width)}
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}."
        rows = {"q": width, "k": kv_width, "v": kv_width, "o": width}
        shapes |= {f"{layer}self_attn.{part}_proj": (num, width) for part, num in rows.items()}
        shapes |= {f"{layer}mlp.{part}_proj": (ffn, width) for part in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj": (width, ffn)}
        shapes |= {f"{layer}{part}_layernorm": (width,) for part in ("input", "post_attention")}
    shapes |= {"model.norm": (width,), "lm_head": (vocab_size, width)}
    std = config.initializer_range
    return {
        f"{name}.weight": torch.ones(shape)
        if len(shape) == 1
        else torch.empty(shape).normal_(0, std, generator=draws)
        for name, shape in shapes.items()
    }


def _layer(state: dict[str, torch.Tensor], prefix: str) -> SimpleNamespace:
    attention = {f"{part}_proj": _part(state, f"{prefix}self_attn.{part}_proj") for part in "qkvo"}
    ffn = {f"{part}_proj": _part(state, f"{prefix}mlp.{part}_proj") for part in ("gate", "up", "down")}
    norms = {name: _part(state, prefix + name) for name in ("input_layernorm", "post_attention_layernorm")}
    return SimpleNamespace(self_attn=SimpleNamespace(**attention), mlp=SimpleNamespace(**ffn), **norms)


def _part(state: dict[str, torch.Tensor], name: str) -> SimpleNamespace:
    return SimpleNamespace(weight=state.pop(f"{name}.weight"), bias=None)
