"""Command line: `python -m harness.models train|evaluate|convert|workload|random`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.models import gguf, registry

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 with a message on stderr when it could not."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except HarnessError as exc:
        print(f"harness.models: {exc}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.models", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    train = commands.add_parser(
        "train", help="make a model from nothing, by its recipe (needs torch, transformers)"
    )
    train.add_argument("name")
    train.add_argument("--output", type=Path, help="folder for the checkpoint (default: the committed one)")
    train.add_argument(
        "--scratch", type=Path, default=Path("build/pocket"), help="folder for finished stages"
    )
    train.add_argument(
        "--compile", action="store_true", help="compile the layers: faster, needs a C++ compiler"
    )
    train.set_defaults(run=_train)
    evaluate = commands.add_parser(
        "evaluate", help="grade every model through llama.cpp and rewrite the card"
    )
    evaluate.set_defaults(run=_evaluate)
    convert = commands.add_parser("convert", help="write a model as GGUF and print the file's path")
    convert.add_argument("name")
    convert.add_argument("--quant", default="f16", choices=gguf.QUANTS)
    convert.set_defaults(run=_convert)
    workload = commands.add_parser("workload", help="write bench/workloads/swe-mini.json")
    workload.add_argument("--output", type=Path, help="another file to write")
    workload.set_defaults(run=_workload)
    random = commands.add_parser(
        "random", help="write a checkpoint of a known shape with random weights, for engines that load files"
    )
    random.add_argument("name", help="of harness/models/shapes.toml, such as meta-llama/Llama-2-7b-hf")
    random.add_argument(
        "--output", type=Path, help="folder for the checkpoint (default: random--ORG--NAME, here)"
    )
    random.add_argument("--dtype", default="float16", choices=("float32", "float16", "bfloat16"))
    random.set_defaults(run=_random)
    return parser


def _random(options: argparse.Namespace) -> None:
    from harness.models.random_marks import MARK, folder_of, says_random
    from harness.models.shapes import random_of
    from harness.models.torch_engine import load, require_torch

    name = random_of(options.name)
    folder: Path = options.output or Path(folder_of(name))
    require_torch("random", "cpu")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"random: {folder} is not empty; name a new folder")
    loaded = load("random", name, "cpu", options.dtype)
    setattr(loaded.model.config, MARK, name)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    for path in folder.iterdir():  # weights are written for their owner alone, and servers are others
        path.chmod((folder / "config.json").stat().st_mode)
    print(f"wrote {folder}: {name}@{options.dtype}, with the pocket models' tokenizer")
    if not says_random(str(folder.resolve())):
        print(
            f"its name does not say that its weights are random: serve it as {folder_of(name)}, or pass "
            "--backend ROLE=URL?weights=random; else a run may judge its answers as a trained model's"
        )


def _train(options: argparse.Namespace) -> None:
    from harness.models import network, recipe, training

    if options.compile:
        network.compile_blocks()
    folder = options.output or registry.WEIGHTS_DIR / options.name
    training.train(recipe.read(options.name), folder, scratch=options.scratch)
    print(f"wrote {folder}; sha256 for registry.toml: {registry.sha256_of(folder)}")


def _evaluate(options: argparse.Namespace) -> None:
    from harness.models import card

    card.write()
    print(f"wrote {card.CARD_JSON} and {card.CARD_PAGE}")


def _convert(options: argparse.Namespace) -> None:
    print(registry.gguf_path(options.name, options.quant))


def _workload(options: argparse.Namespace) -> None:
    from harness.models import workload

    path = options.output or workload.WORKLOAD_FILE
    workload.write(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
