"""Channels: what was sent arrives, whatever the peer did not read."""

from __future__ import annotations

import os

from rootless.fds import Channel, seqpacket_pair
from rootless.plan import Exited, Wait


def test_the_last_words_of_a_peer_that_did_not_listen() -> None:
    ours, theirs = seqpacket_pair()
    other = Channel(theirs)
    ours.send_stream(b"i", b"nobody reads this")
    other.send_stream(b"o", b"output")
    other.close()
    assert ours.receive_packet() == b"ooutput"
    assert ours.receive_packet() == b""
    ours.close()


def test_the_last_message_of_a_peer_that_did_not_listen() -> None:
    ours, theirs = seqpacket_pair()
    other = Channel(theirs)
    ours.send(Wait())
    read_end, write_end = os.pipe()
    other.send(Exited(exit_code=3), [read_end])
    other.close()
    message, fds = ours.receive()
    assert message == Exited(exit_code=3)
    assert len(fds) == 1
    assert ours.receive() == (None, [])
    ours.close()
    for fd in (read_end, write_end, *fds):
        os.close(fd)
