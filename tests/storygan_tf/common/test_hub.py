"""Downloads by tensorflow_hub give up after a while."""

from __future__ import annotations

import socket

import pytest

from storygan_tf.common.hub import SECONDS_WITHOUT_ANSWER, hub_socket_timeout


def test_sockets_have_a_timeout_within_the_block_only():
    before = socket.getdefaulttimeout()
    with pytest.raises(RuntimeError), hub_socket_timeout():
        with socket.socket() as opened:
            assert opened.gettimeout() == SECONDS_WITHOUT_ANSWER
        raise RuntimeError
    assert socket.getdefaulttimeout() == before


def test_a_silent_server_is_given_up():
    with socket.create_server(("localhost", 0)) as server, hub_socket_timeout(seconds=0.05):
        client = socket.create_connection(server.getsockname())
        with client, pytest.raises(TimeoutError):
            client.recv(1)
