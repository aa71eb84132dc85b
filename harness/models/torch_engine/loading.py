"""From a model's name to a model in memory.

A name is a pocket model, a folder with a checkpoint, `ORG/NAME` on the Hugging Face hub, or `random:NAME`, a
known shape with random weights (`harness.models.shapes`), which reads and writes with the pocket models'
tokenizer and never ends a text by itself. The hub is asked
only for a model that is not in its cache, and for a few seconds only: a machine without a network gets its
answer at once.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, LaunchError, ModelError, UnavailableError
from harness.hardware.memory import out_of_memory
from harness.models import registry, shapes
from harness.models.torch_engine.jobs import Job, Refusal

__all__ = ["DTYPES", "Loaded", "find", "load", "require_torch"]

DTYPES = ("float32", "float16", "bfloat16", "auto")
"""Of the weights in memory; `auto` is the checkpoint's own."""

TOKENIZER_OF = "nano"
"""The pocket model whose tokenizer random weights are read and written with."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_S = 5.0
_one_at_a_time = threading.Lock()
"""While it loads, transformers patches the process. Two loads at once leave it patched: from then on, models
come with random numbers for tied weights (seen with 5.23)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model ready to run, with what its files say of it."""

    model: Any
    tokenizer: Any
    device: Any
    eos_ids: tuple[int, ...]
    max_positions: int | None
    last_logits: Mapping[str, int]
    """Argument that spares the logits of all but the last token, where the model knows it."""
    num_written: int | None = None
    """Tokens that the tokenizer has, where the model has more: the others are written as these over again."""

    def encode(self, job: Job) -> list[int]:
        """Token ids of a job's prompt, special tokens as the model wants them. Raises Refusal."""
        if not job.turns:
            return list(self.tokenizer.encode(job.prompt))
        chat = [{"role": role, "content": content} for role, content in job.turns]
        try:
            ids = self.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as exc:  # a template is a program, and fails as it likes
            raise Refusal(f"the model's chat template refuses this ({exc}); send a raw prompt") from exc
        return list(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some tokens, special ones left out, blanks as they are."""
        if self.num_written is not None:
            ids = [one % self.num_written for one in ids]
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def require_torch(name: str, device: str, *, needs_transformers: bool = True) -> None:
    """Return when PyTorch, transformers (a second's import) and the device are there.

    Raises
    ------
    UnavailableError: they are not; the message is the line that would change that.
    """
    try:
        import torch

        if needs_transformers:
            import transformers  # noqa: F401
    except ImportError as exc:
        line = "pip install 'assay[torch]', or pip install torch transformers"
        raise UnavailableError(f"{name}: the transformers engine needs PyTorch ({exc}): {line}") from exc
    if not device.startswith("cuda"):
        return
    num = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index >= num:
        built = "" if torch.version.cuda else "install a PyTorch that is built with CUDA, or "
        raise UnavailableError(
            f"{name}: device is {device}, and PyTorch sees {num} CUDA devices; {built}pass device=cpu"
        )


def find(name: str, model: str) -> str:
    """What transformers is to load: a folder, or an id on the hub that is cached or can be reached.

    Raises
    ------
    ModelError: a pocket model's weights are missing or corrupt, or the name means nothing.
    LaunchError: the folder holds no checkpoint, or the hub cannot be reached or does not have it.
    """
    pocket = registry.names("pocket")
    if model in pocket:
        return str(registry.checkpoint(model))
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise LaunchError(
                f"{name}: {path} has no config.json; pass the folder of a checkpoint that transformers reads"
            )
        return str(path)
    if path.exists() or model.startswith(("/", ".", "~")):
        what = "is a file" if path.exists() else "does not exist"
        raise LaunchError(f"{name}: {model} {what}; pass the folder of a checkpoint")
    if not _HUB_ID.fullmatch(model):
        raise ModelError(
            f"{name}: unknown model {model!r}; pass {', '.join(pocket)}, a folder, or ORG/NAME on the hub"
        )
    _check_hub(name, model)
    return model


def load(name: str, model: str, device: str, dtype: str) -> Loaded:
    """Load a model for answering.

    Raises
    ------
    ModelError, LaunchError: as `find`, or transformers cannot load what was found.
    BudgetError: the device, or this machine, has no memory for it.
    """
    if shapes.is_random(model):
        return _random(name, model, device, dtype)
    where = find(name, model)
    with _one_at_a_time, _foreign_errors(name, model), _no_progress_bars():
        transformers: Any = import_module("transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(where)
        loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, output_loading_info=True
        )
        if info["missing_keys"]:
            # transformers would go on with random numbers in their place.
            missing = sorted(info["missing_keys"])
            raise LaunchError(
                f"{name}: {model} lacks {len(missing)} weights ({missing[0]}, …); restore the checkpoint"
            )
        loaded = loaded.to(device).eval()
    return _loaded(loaded, tokenizer, _eos_ids(loaded, tokenizer))


def _random(name: str, model: str, device: str, dtype: str) -> Loaded:
    from harness.models.torch_engine.random_weights import random_model

    row = shapes.shape_of(model)
    with _one_at_a_time, _foreign_errors(name, model), _no_progress_bars():
        made = random_model(row, device, dtype)
        transformers: Any = import_module("transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(registry.checkpoint(TOKENIZER_OF)))
    return _loaded(made, tokenizer, (), num_written=len(tokenizer))


def _loaded(loaded: Any, tokenizer: Any, eos_ids: tuple[int, ...], num_written: int | None = None) -> Loaded:
    parameters = inspect.signature(loaded.forward).parameters
    config = loaded.config.get_text_config(decoder=True)
    return Loaded(
        model=loaded,
        tokenizer=tokenizer,
        device=loaded.device,
        eos_ids=eos_ids,
        max_positions=getattr(config, "max_position_embeddings", None),
        last_logits={"logits_to_keep": 1} if "logits_to_keep" in parameters else {},
        num_written=num_written,
    )


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every token that ends an answer: instruction-tuned models have several."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    return tuple(ids) if isinstance(ids, list | tuple) else () if ids is None else (ids,)


def _check_hub(name: str, model: str) -> None:
    """Return when the model is cached or the hub has it and answers."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    remedy = f"run `hf download {model}` where there is a network, or pass the folder of a checkpoint"
    if constants.HF_HUB_OFFLINE:
        raise LaunchError(f"{name}: {model} is not cached and HF_HUB_OFFLINE is set; {remedy}")
    try:
        HfApi().model_info(model, timeout=_HUB_S)
    except GatedRepoError as exc:
        raise LaunchError(
            f"{name}: {model} is gated; accept its licence on the hub and set HF_TOKEN"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise LaunchError(f"{name}: the hub has no model {model}, or it is private; set HF_TOKEN") from exc
    except (HfHubHTTPError, OSError) as exc:
        raise LaunchError(f"{name}: {model} is not cached and the hub gave no answer; {remedy}") from exc
    except Exception as exc:  # its HTTP library's own errors, and that library changes
        reason = type(exc).__name__
        raise LaunchError(
            f"{name}: {model} is not cached and the hub is not reached ({reason}); {remedy}"
        ) from exc


@contextmanager
def _foreign_errors(name: str, model: str) -> Iterator[None]:
    try:
        with out_of_memory():
            yield
    except HarnessError:
        raise
    except Exception as exc:  # a loader of any file format fails in any way
        said = str(exc).strip().partition("\n")[0][:300]
        raise LaunchError(
            f"{name}: transformers could not load {model} ({type(exc).__name__}: {said}); "
            "check the checkpoint, or free memory"
        ) from exc


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    logging: Any = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
