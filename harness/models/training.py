"""Train a pocket model from nothing, as its recipe says, and write it as a Hugging Face checkpoint.

One thread, fresh examples in every step, loss on the answers only. The run is bit-stable only on
one machine, so the weights are committed and the recipe says how they came about.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from harness.models import batches, tokenizer
from harness.models.chat import END_OF_TURN, SPECIAL_TOKENS
from harness.models.network import Network, Shape, from_hugging_face, grow, to_hugging_face
from harness.models.recipe import Recipe, Settings, Stage

__all__ = ["HEAD_DIM", "train", "write_checkpoint"]

HEAD_DIM = 32
"""Width of a head; llama.cpp's attention falls into a slow path below it."""

_REPORT_EVERY = 200
_SAVE_EVERY = 1000


def train(recipe: Recipe, folder: Path, *, scratch: Path) -> None:
    """Train a model and write it to `folder`.

    `scratch` takes a checkpoint after every stage, and a stage found there is not run again. Each stage
    starts from the stored checkpoint of the one before, so an interrupted run ends as a whole one does.
    """
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    scratch.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.build()
    network = Network(_shape(recipe, recipe.stages[0].layers))
    started_s = time.process_time()
    for number, stage in enumerate(recipe.stages):
        if stage.layers != network.shape.layers:
            network = grow(network, stage.layers)
        finished = scratch / f"{recipe.name}-{number}"
        if not (finished / "model.safetensors").exists():
            _run_stage(network, recipe, number, vocabulary, scratch / f"{recipe.name}-unfinished")
            write_checkpoint(network, vocabulary, finished)
        from_hugging_face(network, load_file(finished / "model.safetensors"))
    write_checkpoint(network, vocabulary, folder)
    notes = {
        "tokens": sum(stage.tokens for stage in recipe.stages),
        "cpu_s": round(time.process_time() - started_s),
    }
    (folder / "training.json").write_text(json.dumps({**notes, "torch": torch.__version__}, indent=1) + "\n")


def write_checkpoint(network: Network, vocabulary: Any, folder: Path) -> None:
    """Write weights (fp16), config and tokenizer so that transformers loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_hugging_face(network), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(network.shape), indent=2) + "\n")
    ids = {"eos_token_id": _EOS, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, **ids}, indent=2) + "\n")
    tokenizer.save(vocabulary, folder)


_EOS = SPECIAL_TOKENS.index(END_OF_TURN)


def _run_stage(network: Network, recipe: Recipe, number: int, vocabulary: Any, folder: Path) -> None:
    stage, settings = recipe.stages[number], recipe.settings
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=stage.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    seed = f"{recipe.name}/{recipe.seed}/{number}"
    data = batches.stream(vocabulary, stage.mix, seed=seed, max_tokens=settings.batch_tokens)
    used, step, losses, started_s = 0, 0, [], time.process_time()
    while used < stage.tokens:
        batch = next(data)
        optimizer.param_groups[0]["lr"] = _learning_rate(stage, settings, step, used)
        losses.append(_step(network, optimizer, batch, settings))
        used += batch.tokens.numel()
        step += 1
        if step % _REPORT_EVERY == 0:
            _report(recipe.name, number, step, used, time.process_time() - started_s, losses)
            losses = []
        if step % _SAVE_EVERY == 0:
            write_checkpoint(network, vocabulary, folder)


def _step(
    network: Network, optimizer: torch.optim.Optimizer, batch: batches.Batch, settings: Settings
) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        loss = network.loss(batch.tokens, batch.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _learning_rate(stage: Stage, settings: Settings, step: int, used: int) -> float:
    """Warm up, then go straight from the stage's rate to its final one."""
    progress = used / stage.tokens
    straight = stage.lr + (stage.final_lr - stage.lr) * progress
    return straight * min(1.0, (step + 1) / settings.warmup_steps)


def _report(name: str, stage: int, step: int, used: int, cpu_s: float, losses: list[float]) -> None:
    loss = sum(losses) / len(losses)
    print(
        f"{name} stage {stage} step {step}: {used / 1e6:.2f}M tokens, {cpu_s:.0f} CPU-s, loss {loss:.4f}",
        flush=True,
    )


def _shape(recipe: Recipe, layers: int) -> Shape:
    return Shape(
        vocab_size=tokenizer.VOCAB_SIZE,
        width=recipe.width,
        layers=layers,
        heads=recipe.heads,
        head_dim=HEAD_DIM,
        ffn=recipe.ffn,
    )


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": 1024,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": _EOS,
        "pad_token_id": 0,
        "dtype": "float16",
    }
