"""A Ray cluster that cannot be had is said in one line, with what would help, and in time."""

from __future__ import annotations

import socket
import sys
from time import perf_counter

import pytest

from harness.agents.cluster import RayCluster
from harness.errors import LaunchError, UnavailableError, UsageError


def test_without_ray_the_line_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every other extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match=r"ray is missing; run: pip install 'assay\[ray\]'"):
        RayCluster()


@pytest.mark.parametrize("address", ["here", "ray://here:10001", "here:port", ":6379", "here:70000"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    """Ray's own client is refused too: it neither streams nor is on this machine."""
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="give HOST:PORT of a cluster with a node on this machine"):
        RayCluster(address)


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    """Ray itself would try for minutes."""
    pytest.importorskip("ray")
    with pytest.raises(LaunchError, match=r"ray at 127.0.0.1:1: nothing answers \(.*refused\); start one"):
        RayCluster("127.0.0.1:1")


def test_what_listens_and_is_no_ray_is_told_within_the_deadline() -> None:
    """The process that asked it is ended."""
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        began_s = perf_counter()
        with pytest.raises(LaunchError, match=r"no Ray answered within 2 s; give the address that"):
            RayCluster(f"127.0.0.1:{server.getsockname()[1]}", deadline_s=2)
        assert perf_counter() - began_s < 20
