"""What vLLM does with several models: a server for each, one awake at a time; or a new server per request.

`vllm-sleep` is how its documentation has it: a process per model with --enable-sleep-mode, all but one
asleep at level 1, their weights in host memory. Who sleeps keeps its allocator, its graphs and its kernels.
A switch is a sleep and a wake. `vllm-recreate` is the published baseline, which built an engine anew per
request; here the server is the engine, so that its process, and whatever leaks, goes with it.

Physics: waking copies the weights from host to device, and sleeping copies them back, though they are
read-only: the link carries both ways per switch. How many bytes cross is not told, so it is None here.

Traps: vLLM takes a share of the whole device, weights, workspace and keys and values together; the share
given here is the arena's. A sleeping server keeps its CUDA context, about half a GB beside that share. Prefix
caches are off: a prompt asked twice would be no work. Other kernels than the reference's may choose another
token where two are as likely.

Source: vllm-project/vllm, docs/features/sleep_mode.md; blog.vllm.ai, 2025-10-26 (a server per model).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from harness.errors import BackendError, BackendUnreachable, UnavailableError, UsageError
from harness.launchers.process import ProcessLauncher
from harness.launchers.recipes import process_launcher
from harness.launchers.scratch import scratch_folder
from harness.models.shapes import RANDOM, is_random
from harness.residency.homes import by_popularity
from harness.sessions.ring.minis import is_mini
from harness.switching.arms.models import require_model
from harness.switching.arms.vllm_client import Tokens, VllmClient
from harness.switching.base import Answer, Ask
from harness.switching.setting import Setting

__all__ = ["VllmRecreate", "VllmSleep"]

_SLACK_TOKENS = 16
_ERROR = re.compile(r"\bERROR\b.*?(\w+Error: .+)")
_WORDS_LEN = 300
_MOST_OF_DEVICE = 0.9
"""What vLLM takes unless told otherwise."""


class VllmSleep:
    """A server per model; at most one is awake."""

    name = "vllm-sleep"

    def __init__(self, setting: Setting) -> None:
        """Start the servers one after the other, each put to sleep before the next; or find those there are.

        Raises
        ------
        UnavailableError: there is no GPU, no vLLM, or no sleep mode at a URL.
        LaunchError: a server did not come up.
        """
        if not setting.servers:
            _require_gpu(self.name)
        self._setting = setting
        self._stack = ExitStack()
        self._clients: dict[str, VllmClient] = {}
        self._logs: dict[str, Path] = {}
        self._awake: str | None = None
        self._is_sure = True
        try:
            launchers = {} if setting.servers else _launchers(self.name, setting, self._stack)
            self._logs = {model: launcher.log for model, launcher in launchers.items() if launcher.log}
            for model in setting.models:
                url, served = setting.servers.get(model), model
                if url is None:
                    server = self._stack.enter_context(launchers[model].launch())
                    url, served = server.url, server.model
                client = VllmClient(url, served, name=self.name, timeout_s=setting.deadline_s)
                self._clients[model] = client
                if not client.is_sleeping():
                    client.sleep()
        except BaseException:
            self.close()
            raise

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Put all to sleep; wake the one that a warm-up leaves."""
        if warm == "cold":
            self._switch(None)
        elif warm == "each":
            for model in self._clients:
                self._switch(model)
        else:
            self._switch(by_popularity(self._setting.popularity)[0])

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Wake the model if it sleeps, and ask it."""
        require_model(ask.model, self._clients)
        began_s = perf_counter()
        is_hit = ask.model == self._awake
        with _last_words(self._logs.get(ask.model)):
            self._switch(ask.model)
            awake_s = perf_counter()
            return _answer(ask, self._clients[ask.model].generate(ask), began_s, awake_s, is_hit=is_hit)

    def checksums(self) -> Mapping[str, str]:
        """None that could be seen."""
        return {}

    def close(self) -> None:
        """Stop the servers that were started here."""
        self._stack.close()

    def _switch(self, model: str | None) -> None:
        if self._is_sure and model == self._awake:
            return
        awake = ({self._awake} if self._awake else set()) if self._is_sure else self._all_awake()
        # Until all calls have returned it is not known who is awake; after a failure, the servers are asked.
        self._is_sure = False
        for one in awake - {model}:
            self._clients[one].sleep()
        if model is not None and model not in awake:
            self._clients[model].wake_up()
        self._awake, self._is_sure = model, True

    def _all_awake(self) -> set[str]:
        awake = set()
        for model, client in self._clients.items():
            with suppress(BackendUnreachable):  # who is gone is not awake
                if not client.is_sleeping():
                    awake.add(model)
        return awake


class VllmRecreate:
    """A server per request, for whatever model it wants."""

    name = "vllm-recreate"

    def __init__(self, setting: Setting) -> None:
        """Check that vLLM is here; nothing is started yet.

        Raises
        ------
        UnavailableError: it is not.
        UsageError: servers that run already are named.
        """
        if setting.servers:
            raise UsageError(f"{self.name}: a server is started per request; leave out {setting.servers}")
        self._setting = setting
        self._stack = ExitStack()
        try:
            self._launchers = _launchers(self.name, setting, self._stack)
        except BaseException:
            self.close()
            raise

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Nothing is kept that could be reset, or warmed up."""

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Start a server, ask it, and end it; its end is in no request's time."""
        require_model(ask.model, self._launchers)
        began_s = perf_counter()
        launcher = self._launchers[ask.model]
        with launcher.launch() as server, _last_words(launcher.log):
            there_s = perf_counter()
            deadline_s = self._setting.deadline_s
            client = VllmClient(server.url, server.model, name=self.name, timeout_s=deadline_s)
            return _answer(ask, client.generate(ask), began_s, there_s, is_hit=False)

    def checksums(self) -> Mapping[str, str]:
        """None that could be seen."""
        return {}

    def close(self) -> None:
        """Nothing is left running between requests."""
        self._stack.close()


def _launchers(name: str, setting: Setting, stack: ExitStack) -> dict[str, ProcessLauncher]:
    """For each model, with a log that is there until the stack is closed."""
    found = {model: _launcher(name, model, setting) for model in setting.models}
    for launcher in found.values():
        launcher.check_program()
    folder = stack.enter_context(scratch_folder("assay-vllm"))
    return {
        model: replace(launcher, log=folder / f"{number}.log")
        for number, (model, launcher) in enumerate(found.items())
    }


@contextmanager
def _last_words(log: Path | None) -> Iterator[None]:
    """Put the first error of the server's log behind ours: an engine that died says only that it did."""
    try:
        yield
    except BackendError as exc:
        text = log.read_text(errors="replace") if log is not None and log.exists() else ""
        told = _ERROR.search(text)
        if told is None:
            raise
        raise type(exc)(f"{exc}; its log: {told[1][:_WORDS_LEN]}") from exc


def _launcher(name: str, model: str, setting: Setting) -> ProcessLauncher:
    if is_mini(model):
        raise UnavailableError(f"{name}: {model} is made on the spot, and vLLM loads checkpoints; "
                               "name some with --models A,B")  # fmt: skip
    if is_random(model):
        line = f"python -m harness.models random {model.removeprefix(RANDOM)} --output FOLDER"
        raise UnavailableError(f"{name}: {model} is made on the spot, and vLLM loads checkpoints; "
                               f"write one ({line}), and name its folder with --models")  # fmt: skip
    args = [
        "--no-enable-prefix-caching", "--dtype", setting.dtype, "--seed", str(setting.seed),
        "--max-model-len", str(setting.prompt_tokens + setting.new_tokens + _SLACK_TOKENS),
    ]  # fmt: skip
    share = _share_of_device(setting.arena_bytes)
    if share is not None:
        args += ["--gpu-memory-utilization", f"{share:.4f}"]
    return process_launcher(
        "vllm",
        name=name,
        model=model,
        args=args,
        deadline_s=setting.deadline_s,
        python=setting.vllm_python,
    )


def _share_of_device(num_bytes: int) -> float | None:
    """What vLLM is to take of the GPU; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    _, total_bytes = torch.cuda.mem_get_info()
    return min(_MOST_OF_DEVICE, num_bytes / float(total_bytes))


def _require_gpu(name: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UnavailableError(
            f"{name}: sleep mode needs an NVIDIA GPU, and there is none here; run it on a node with vLLM and "
            "one, or give the URLs of servers started with --enable-sleep-mode"
        )


def _answer(ask: Ask, tokens: Tokens, began_s: float, there_s: float, *, is_hit: bool) -> Answer:
    return Answer(
        model=ask.model,
        token_ids=tokens.token_ids,
        began_s=began_s,
        first_token_s=tokens.first_s,
        done_s=perf_counter(),
        switch_s=there_s - began_s,
        is_hit=is_hit,
    )
