"""Where a server listens: sockets that are taken, left behind, or not there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.errors import (
    BackendUnreachable,
    LaunchError,
    UsageError,
)
from harness.sessions.address import Address, dial, listen
from harness.sessions.client import SessionClient


class TestAddresses:
    def test_a_socket_of_a_dead_server_is_replaced(self, tmp_path: Path) -> None:
        """A file that nobody answers at."""
        path = tmp_path / "s"
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(path))
        dead.close()
        listener = listen(Address.of_path(str(path)))
        dial(listener.address, timeout_s=60).close()
        listener.close()
        assert not path.exists()

    def test_a_socket_of_a_living_server_is_not(self, tmp_path: Path) -> None:
        """It goes on listening."""
        address = Address.of_path(str(tmp_path / "s"))
        listener = listen(address)
        with pytest.raises(LaunchError, match="a server listens there"):
            listen(address)
        dial(address, timeout_s=60).close()
        listener.close()

    def test_a_file_that_is_no_socket_is_left_alone(self, tmp_path: Path) -> None:
        """It may be dear to somebody."""
        path = tmp_path / "s"
        path.write_text("dear")
        with pytest.raises(UsageError, match="is not a socket"):
            listen(Address.of_path(str(path)))
        assert path.read_text() == "dear"

    def test_a_server_does_not_delete_the_socket_of_its_successor(self, tmp_path: Path) -> None:
        """The file was replaced while it ran."""
        path = tmp_path / "s"
        first = listen(Address.of_path(str(path)))
        path.unlink()
        second = listen(Address.of_path(str(path)))
        first.close()
        assert path.exists()
        second.close()

    def test_only_its_owner_may_connect_to_a_unix_socket(self, tmp_path: Path) -> None:
        """From the first moment."""
        path = tmp_path / "s"
        listener = listen(Address.of_path(str(path)))
        assert path.stat().st_mode & 0o777 == 0o600
        listener.close()

    def test_a_port_that_is_taken_is_an_error(self) -> None:
        """With the address in it."""
        listener = listen(Address())
        with pytest.raises(LaunchError, match=str(listener.address)):
            listen(listener.address)
        listener.close()

    def test_where_nobody_listens_is_an_error_that_says_where(self, tmp_path: Path) -> None:
        """Path or port."""
        for address in (Address.of_path(str(tmp_path / "none")), Address(port=1)):
            with pytest.raises(BackendUnreachable, match=f"no session server at {address}"):
                SessionClient.connect(address, timeout_s=60)

    @pytest.mark.parametrize("text", ["", "5556", "host:", "host:0", "host:x", ":5", "host:70000", "unix:"])
    def test_an_address_that_is_none_is_refused(self, text: str) -> None:
        """With what it should be."""
        with pytest.raises(UsageError, match="give"):
            Address.parse(text)

    def test_a_path_too_long_for_a_socket_is_refused(self) -> None:
        """The kernel's own message would not say so."""
        with pytest.raises(UsageError, match="give 1 to 107"):
            Address.of_path("/" + "x" * 107)

    @pytest.mark.parametrize("text", ["unix:/tmp/x.sock", "localhost:5556", "[::1]:5556"])
    def test_an_address_is_written_as_it_is_read(self, text: str) -> None:
        """Both ways."""
        assert str(Address.parse(text)) == text
        assert Address.parse(text).is_loopback
