"""Ways to a server: each launcher starts one, or finds one running, and gives its URL.

=============  ==================================================  ==========================================
module         launcher                                            the server is
=============  ==================================================  ==========================================
`embedded`     `EmbeddedLauncher`                                  llama.cpp, in this process
`inprocess`    those of PyTorch and of the simulator               no server at all, but an engine held here
`process`      `ProcessLauncher`                                   a program from PATH, in a process group
`container`    `ContainerLauncher`                                 an image, run by docker or podman
`url`          `UrlLauncher`                                       already running; never stopped by us
=============  ==================================================  ==========================================

`recipes` starts an engine by its name, as a process or as a container; `recipes.toml` says how, `recipe` is
its schema, `tables` reads it and `weights` is what a model's name becomes. `detect` finds servers that run
already (`python -m harness.launchers`), `probe` asks one over HTTP, `started` looks for its model and `ports`
finds free ones. `container_engine` is the way to docker or podman. `group` is a program with all it starts;
`watchdog` stops groups and removes containers even when this process is killed, and what `scratch` makes.
`llamacpp_server` is the embedded engine as a program, `image` puts it into a container's image on the spot,
and `canned` is a server for tests that computes nothing. Launchers know of no backend: what a URL speaks is
not their concern.
"""

from __future__ import annotations

from harness.launchers.base import Launcher, Server
from harness.launchers.container import ContainerLauncher
from harness.launchers.embedded import EmbeddedLauncher
from harness.launchers.process import ProcessLauncher
from harness.launchers.url import UrlLauncher

__all__ = ["ContainerLauncher", "EmbeddedLauncher", "Launcher", "ProcessLauncher", "Server", "UrlLauncher"]
