"""Ways to a server: each launcher starts one, or finds one running, and gives its URL.

=============  ==================================================  ==========================================
module         launcher                                            the server is
=============  ==================================================  ==========================================
`embedded`     `EmbeddedLauncher`                                  llama.cpp, in this process
`process`      `ProcessLauncher`                                   a program from PATH, in a process group
`url`          `UrlLauncher`                                       already running; never stopped by us
=============  ==================================================  ==========================================

`watchdog` stops process groups even when this process is killed; `canned` is a server for tests that speaks
the protocol and computes nothing. Launchers know of no backend: what a URL speaks is not their concern.
"""

from __future__ import annotations

from harness.launchers.base import Launcher, Server
from harness.launchers.embedded import EmbeddedLauncher
from harness.launchers.process import ProcessLauncher
from harness.launchers.url import UrlLauncher

__all__ = ["EmbeddedLauncher", "Launcher", "ProcessLauncher", "Server", "UrlLauncher"]
