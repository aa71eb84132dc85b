"""Everything on a GPU node, by one command: `python -m bench.node`, which is what `tox -e gpu` runs.

    python -m bench.node                          every experiment, one results folder at the end
    python -m bench.node --weights /models        checkpoints in a folder: ORG/NAME, NAME or ORG--NAME
    python -m bench.node -n auto --lanes gpu      what it does not know is pytest's
    python -m bench.node --dry                    what it would run, and on what
    python -m bench.node --tiny -m cascade        the same path on a processor, with shapes of no model

What is here decides what runs. The seeds' models are taken where their weights are (a folder, the hub's
cache; no network is asked), and stood for by random weights of the same shape where they are not: times,
bytes and memory are then as valid, and claims about answers are out of scope. The cascade's two models are
asked at the servers of `bench/nodes/seed.toml` where those answer, and else loaded here by PyTorch. What
needs Ollama is skipped without it, with the line that starts it. `hardware.json` in the results folder says
what the machine had. Ctrl-C, SIGTERM and SIGHUP interrupt pytest once: it judges what was measured, and
`--resume` goes on from there, as after any other end, this process's own by SIGKILL among them.

Limits. No weights of 7 billion parameters have been computed by these paths yet: no GPU was at hand. The
paths themselves are tested with tiny shapes. Routing loads and unloads models of an Ollama server, which
holds no random ones.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.interrupts import Ended, deaf, run_to_end
from fixtures.nodes import FOLDER, load_node
from harness.errors import HarnessError, UnavailableError
from harness.models.shapes import random_of, shape_of
from harness.survey.found import Survey, survey
from harness.survey.main import whole
from harness.survey.weights import find_weights, require_folder
from reports import journal

__all__ = ["Choice", "arguments_of", "chosen", "main", "node_file"]

ROOT = Path(__file__).parents[1]
SEED_NODE = FOLDER / "seed.toml"
DECODED = "meta-llama/Llama-2-7b-hf"
SWITCHED = (DECODED, "mistralai/Mistral-7B-v0.3", "Qwen/Qwen2.5-3B")
"""The most popular first; the last stands for phi-2, whose architecture no session engine computes."""
THIRD = "phi-2-as-llama"
"""In the last one's place where its weights are random anyway: as large as phi-2."""
CASCADE = {"large": "mistralai/Mistral-7B-Instruct-v0.3", "small": "Qwen/Qwen2.5-0.5B-Instruct"}
TINY = ("tiny-llama", "tiny-qwen")
DTYPE = "float16"
NODES = "--ray-address"
SPREAD = ("--lanes", NODES)
"""Options of pytest under which each process sees its own devices alone."""
NO_GPU = 3
"""The exit status where there is no GPU: nothing was measured, and nothing failed."""
INTERRUPTED, REFUSED = 2, 4
"""pytest's, where it did not get through (Ctrl-C, or a file that cannot be read), or would not begin."""
BYTES_PER_WEIGHT = 2
"""Of float16."""
ROOM_SHARE = 0.9
"""Of a GPU's memory, for weights: the rest is the context's, keys and values."""


class Choice(NamedTuple):
    """What runs on this machine."""

    model_id: str
    """Decoded in sessions, with its dtype."""
    models: tuple[str, ...]
    """Switched between."""
    backends: dict[str, str]
    """Role → spec, of those that are loaded here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; pytest's exit status, or 3 where there is no GPU."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = _parser().parse_known_args(given)
    try:
        require_folder(options.weights)
        found = survey(options.weights)
        names = {one.partition("=")[0] for one in rest}
        choice = chosen(
            found,
            options.weights,
            is_tiny=options.tiny,
            has_lanes=not names.isdisjoint(SPREAD),
            has_nodes=NODES in names,
        )
        command = [sys.executable, "-m", "pytest", *arguments_of(choice, options.results_dir), *rest]
        print(*_told(choice), *crowded(found, choice), f"$ {shlex.join(command[2:])}", sep="\n", flush=True)
        if options.dry:
            return 0
        options.results_dir.mkdir(parents=True, exist_ok=True)
        _node_path(options.results_dir).write_text(node_file(choice))
    except UnavailableError as exc:
        print(f"bench.node: {exc}", file=sys.stderr)
        return NO_GPU
    except (HarnessError, OSError) as exc:
        print(f"bench.node: {exc}", file=sys.stderr)
        return 2
    before = journal.newest(options.results_dir)
    ended = run_to_end(command, ROOT)
    status = ended.status if ended.status >= 0 else 128 - ended.status
    run = journal.newest(options.results_dir)
    if run is None or ended.status == REFUSED or (run == before and "--resume" not in rest):
        return status
    is_whole = ended.status >= 0 and ended.status != INTERRUPTED
    measure = is_whole and not ended.is_interrupted and not options.no_measure
    try:
        _save_hardware(run, options.weights, measure=measure)
    except OSError as exc:
        print(f"bench.node: {exc}; the rest of the run is kept", file=sys.stderr)
        status = status or 2
    if not is_whole:
        again = shlex.join([*given, *(() if "--resume" in given else ("--resume",))])
        kept = "what had finished is kept. Go on with"
        print(f"bench.node: pytest {_how(ended)}; {kept}: python -m bench.node {again}", file=sys.stderr)
    return status


def chosen(
    found: Survey,
    folder: Path | None = None,
    *,
    is_tiny: bool = False,
    has_lanes: bool = False,
    has_nodes: bool = False,
) -> Choice:
    """The models for what was found.

    Arguments: `folder`, of checkpoints; `has_lanes`, whether each worker or errand sees one device, its own;
    `has_nodes`, whether it runs on other machines than this one, which are not looked at.

    Raises
    ------
    UnavailableError: there is no GPU, and shapes of no model were not asked for.
    """
    if is_tiny:
        names = tuple(map(random_of, TINY))
        device = found.cuda[0 if has_lanes else -1] if found.cuda else "cpu"
        return Choice(
            names[0], names, {r: _spec(n, device, "float32") for r, n in zip(CASCADE, names, strict=True)}
        )
    if not found.cuda:
        why = "; ".join(filter(None, (found.no_cuda, found.no_gpus)))
        remedy = "run it on one"
        if found.gpus:  # the driver has what PyTorch does not see
            why += f"; the driver has {', '.join(gpu.name for gpu in found.gpus)}"
            remedy = "install a PyTorch that is built for this driver's CUDA into this environment"
        elif has_nodes:
            why += f"; with {NODES}, too, this machine is looked at, and not the nodes' GPUs"
            remedy = f"begin on a node with a GPU, or choose by hand: pytest bench/ --profile node {NODES} …"
        raise UnavailableError(
            f"a node's run needs an NVIDIA GPU that PyTorch computes on ({why}); "
            f"{remedy}, or here: pytest bench/, or: python -m bench.node --tiny"
        )
    switched = [find_weights(name, folder) for name in SWITCHED]
    models = [one.name for one in switched]
    if switched[-1].path is None:
        models[-1] = random_of(THIRD)
    # Sessions and arenas are on the first device: on a node of several these are out of their way.
    device = found.cuda[0 if has_lanes else -1]
    # By address, too: the node file asks there, and a model that is served elsewhere would not be found.
    served = {(server.url, model) for server in found.servers for model in server.models}
    urls = {role: row.spec.url for role, row in load_node(str(SEED_NODE)).items()}
    backends = {
        role: _spec(find_weights(model, folder).name, device, DTYPE)
        for role, model in CASCADE.items()
        if (urls[role], model) not in served
    }
    return Choice(f"{models[0]}@{DTYPE}", tuple(models), backends)


def crowded(found: Survey, choice: Choice) -> list[str]:
    """A line where one GPU is to hold more weights than it has room for; what does not fit fails by itself.

    The cascade's models stay loaded for the session, and share a device with the others' where there is one.
    """
    devices = {spec.partition("device=")[2].partition("&")[0] for spec in choice.backends.values()}
    if devices != {found.cuda[0] if found.cuda else ""} or not found.gpus:
        return []
    names = [*(CASCADE[role] for role in choice.backends), DECODED]
    needed = sum(BYTES_PER_WEIGHT * shape_of(name).params for name in names)
    memory = found.gpus[0].memory_bytes
    if TINY[0] in choice.model_id or memory is None or needed <= ROOM_SHARE * memory:
        return []
    return [
        f"room:           {found.cuda[0]} has {memory / 1e9:.1f} GB, and the cascade's weights beside "
        f"decode's take {needed / 1e9:.1f} GB; run them one by one: -m cascade, then -m decode, …"
    ]


def arguments_of(choice: Choice, results: Path) -> list[str]:
    """pytest's, of the whole suite in the node profile."""
    return [
        "bench/",
        *("--profile", "node", "--node", str(_from_root(_node_path(results)))),
        *("--results-dir", str(_from_root(results))),
        *("--model-id", choice.model_id, "--models", ",".join(choice.models)),
    ]


def node_file(choice: Choice) -> str:
    """The seeds' servers as a node file, with what is loaded here where none of them answers."""
    rows = tomllib.loads(SEED_NODE.read_text())["backend"]
    ours = {"start": "python -m bench.node", "source": "loaded here, since no server has it"}
    specs = choice.backends
    return "\n".join(
        _row({**row, "spec": specs[row["role"]], **ours} if row["role"] in specs else row) for row in rows
    )


def _row(fields: Mapping[str, str]) -> str:
    # JSON's strings are TOML's, too.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["[[backend]]", *lines, ""])


def _spec(model: str, device: str, dtype: str) -> str:
    return f"transformers:{model}?device={device}&dtype={dtype}"


def _from_root(path: Path) -> Path:
    """As pytest finds it, which runs in the project's folder: records then hold no path of this machine."""
    whole = path.resolve()
    return whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole


def _node_path(results: Path) -> Path:
    return results.resolve() / "node.toml"


def _told(choice: Choice) -> list[str]:
    cascade = ", ".join(f"{role} = {spec}" for role, spec in choice.backends.items()) or "at their servers"
    return [
        f"decode, agents: {choice.model_id}",
        f"switching:      {', '.join(choice.models)}",
        f"cascade:        {cascade}",
    ]


def _how(ended: Ended) -> str:
    if ended.status >= 0:
        return "was interrupted" if ended.is_interrupted else f"ended with status {ended.status}, see above"
    try:
        return f"was ended by {signal.Signals(-ended.status).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-ended.status}"


def _save_hardware(run: Path, weights: Path | None, *, measure: bool) -> None:
    """Beside what was measured; ceilings after it, when nothing else runs, and left out after Ctrl-C."""
    told = None
    if measure:
        try:
            told = whole(weights=weights, folder=run, measure=True)
        except KeyboardInterrupt:
            print("bench.node: interrupted; hardware.json is without ceilings", file=sys.stderr)
    with deaf():
        told = told or whole(weights=weights, folder=run, measure=False)
        (run / "hardware.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"results: {run}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.node",
        description="Every experiment on a GPU node; other arguments are pytest's.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="of checkpoints (default: ASSAY_WEIGHTS)"
    )
    parser.add_argument("--results-dir", type=Path, default=Path("results"), metavar="DIR")
    parser.add_argument("--dry", action="store_true", help="say what would run, and run nothing")
    parser.add_argument("--tiny", action="store_true", help="tiny random shapes, to try the path anywhere")
    parser.add_argument("--no-measure", action="store_true", help="leave ceilings out of hardware.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
