"""A service manager as the notified process sees it: a socket, and what was said there by whom (sd_notify(3))."""

from __future__ import annotations

import array
import os
import queue
import socket
import struct
import threading
from pathlib import Path
from typing import NamedTuple


class Said(NamedTuple):
    pid: int
    text: str
    fds: int  # descriptors that came along


class Manager:
    """Listens at `address`, on a thread; every descriptor that comes is closed at once, which ends a barrier."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._heard: queue.Queue[Said] = queue.Queue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"END", self.address)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            data, ancillary, _flags, _address = self._socket.recvmsg(8192, 512)
            fds: array.array[int] = array.array("i")
            pid = 0
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(content)
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = struct.unpack("3i", content)[0]
            for fd in fds:
                os.close(fd)
            if data == b"END":
                return
            if data != b"BARRIER=1":
                self._heard.put(Said(pid, data.decode(), len(fds)))

    def receive(self, deadline_s: float = 30) -> Said:
        """The next message but barriers.  Raises queue.Empty."""
        return self._heard.get(timeout=deadline_s)

    def until(self, text: str, deadline_s: float = 30) -> Said:
        """The first message that holds this line."""
        while True:
            said = self.receive(deadline_s)
            if text in said.text.split("\n"):
                return said

    def nothing_more(self) -> bool:
        """Whether all that was said has been received."""
        return self._heard.empty()
