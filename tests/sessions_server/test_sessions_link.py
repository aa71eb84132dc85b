"""A declared link: transfers take the time of their bits, and faster links are not paced."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.counting import CountingEngine
from harness.sessions.limits import Limits
from harness.sessions.link import MAX_LINK_BPS, Pacer
from harness.sessions.server import serve_in_thread
from tests.session_servers import connect


class TestLink:
    def test_a_transfer_takes_the_time_its_bits_need(self) -> None:
        """Late wake-ups are made up for; an idle link has nothing saved up."""
        now_s, oversleep_s = [0.0], 0.004

        def sleep(seconds: float) -> None:
            now_s[0] += seconds + oversleep_s

        pacer = Pacer(8_000_000, now=lambda: now_s[0], sleep=sleep)
        for began_s in (0.0, 5.0):
            now_s[0] = began_s
            pacer.begin()
            for _ in range(100):
                pacer.carry(10_000)
            assert 1.0 <= now_s[0] - began_s <= 1.0 + 2 * oversleep_s

    def test_a_client_is_as_slow_as_the_link_the_server_declares(
        self, budget: DeviceBudget, tmp_path: Path
    ) -> None:
        """A megabit each way at 10 Mbit/s: no less than its time."""
        path = Address.of_path(str(tmp_path / "s"))
        with (
            serve_in_thread(lambda: CountingEngine(budget), path, link_bps=10_000_000) as server,
            connect(server) as client,
        ):
            session = client.open(3000)
            session.generate(range(1, 900), max_new_tokens=1)
            began_s = time.perf_counter()
            kv = session.get_kv()
            down_s = time.perf_counter()
            session.put_kv(0, kv.token_ids, kv.rows)
            up_s = time.perf_counter()
        least_s = len(kv.rows) * 8 / 10e6
        assert down_s - began_s >= least_s > 0.04
        assert up_s - down_s >= least_s

    def test_a_link_too_fast_to_pace_is_refused(self) -> None:
        """It is to be modelled from the bytes."""
        with pytest.raises(UsageError, match="model a faster one"):
            Pacer(MAX_LINK_BPS + 1)

    @pytest.mark.parametrize("link_bps", [0, 1, 1_000_000, MAX_LINK_BPS])
    def test_a_server_waits_for_frames_that_are_as_slow_as_it_asked_for(
        self, budget: DeviceBudget, tmp_path: Path, link_bps: int
    ) -> None:
        """Below 8 Mbit/s its own clients were too slow for it; far above, or without a link, all stays."""
        address, num_bytes = Address.of_path(str(tmp_path / "s")), 10**8
        with serve_in_thread(lambda: CountingEngine(budget), address, link_bps=link_bps) as server:
            allowed_s = server.limits.frame_deadline_s(num_bytes)
        usual_s = Limits().frame_deadline_s(num_bytes)
        needed_s = 8 * num_bytes / link_bps if link_bps else 0.0
        assert allowed_s > needed_s
        assert (allowed_s > usual_s) == (0 < link_bps < 16_000_000)
