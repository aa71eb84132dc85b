"""A server that runs already: find it within a deadline, learn its model, and leave it running."""

from __future__ import annotations

import http.client
import time
import urllib.error
from dataclasses import dataclass

from harness.errors import LaunchError, UsageError
from harness.launchers.base import Server
from harness.launchers.probe import served_models, serving_engine, wait_until_answering

__all__ = ["UrlLauncher"]

_LEAST_S = 1.0
"""For each question to a server that answered at the last moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlLauncher:
    """Finds the server at a URL."""

    url: str
    """The server's root, without `/v1`."""
    model: str | None = None
    """The model asked for; `None` takes the only one served."""
    name: str = "server"
    deadline_s: float = 10.0
    api_key: str | None = None

    def launch(self) -> Server:
        """Return the server once it answers; see `Launcher.launch`.

        Raises
        ------
        UsageError: it serves several models and none was named, or not the one that was.
        """
        began_s = time.perf_counter()

        def left_s() -> float:
            return max(_LEAST_S, began_s + self.deadline_s - time.perf_counter())

        remedy = f"start the server or pass --backend {self.name}=URL"
        try:
            wait_until_answering(f"{self.url}/v1/models", self.deadline_s, api_key=self.api_key)
        except TimeoutError as exc:
            waited = f"within {self.deadline_s:g} s"
            raise LaunchError(
                f"{self.name}: no server answers at {self.url} {waited} ({exc}); {remedy}"
            ) from exc
        try:
            served = served_models(self.url, api_key=self.api_key, timeout_s=left_s())
        except urllib.error.HTTPError as exc:
            raise self._refused(exc) from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            what = f"{self.url}/v1/models gave no list of models ({exc})"
            raise LaunchError(f"{self.name}: {what}; pass the URL of an OpenAI-compatible server") from exc
        engine = serving_engine(self.url, api_key=self.api_key, timeout_s=left_s())
        model = self._choose(served, engine)
        return Server(url=self.url, model=model, start_s=time.perf_counter() - began_s, engine=engine)

    def _refused(self, exc: urllib.error.HTTPError) -> LaunchError:
        said = f"{self.name}: {self.url}/v1/models answered {exc.code}"
        if exc.code not in (401, 403):
            return LaunchError(f"{said}; pass the URL of an OpenAI-compatible server")
        if self.api_key is None:
            return LaunchError(f"{said}, as it wants a key; pass it with ?key_env=VARIABLE")
        return LaunchError(f"{said}, as it does not take the key; set the variable to the right one")

    def _choose(self, served: list[str], engine: str | None) -> str:
        if self.model is not None and (not served or self.model in served):
            return self.model
        names = ", ".join(served) or "no model"
        if self.model is not None:
            if engine != "ollama":
                what = f"{self.url} serves {names}, not {self.model}"
                raise UsageError(f"{self.name}: {what}; name one it serves")
            # To Ollama a name without a tag is its latest, in any case of letters.
            for name in served:
                if name.lower() in (self.model.lower(), f"{self.model.lower()}:latest"):
                    return name
            have = f"{self.url} has {names}, not {self.model}"
            raise UsageError(f"{self.name}: {have}; run `ollama pull {self.model}`, or name one it has")
        if not served:
            pull = "run `ollama pull NAME` first" if engine == "ollama" else "load one"
            raise UsageError(f"{self.name}: {self.url} serves no model; {pull}")
        if len(served) != 1:
            raise UsageError(f"{self.name}: {self.url} serves {names}; choose with {self.url}?model=NAME")
        return served[0]
