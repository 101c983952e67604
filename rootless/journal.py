"""The journald log driver: records sent to systemd's journal in its native protocol.

Weight: `os`, `time`, `_socket`, `_struct`, `rootless.logs`.
Protocol: a datagram a record, `NAME=value\\n` or `NAME\\n` + 64-bit little-endian length + value + `\\n`; a record
that is too large for a datagram goes as a sealed memfd (systemd's JOURNAL_NATIVE_PROTOCOL.md).
"""

from __future__ import annotations

import _socket
import _struct
import errno
import os
import time

from rootless.errors import LaunchError, os_error_text
from rootless.logs import LineLog

SOCKET = "/run/systemd/journal/socket"
# syslog(3) priorities, as conmon sets them: informational for stdout, error for stderr.
_PRIORITY = {b"stdout": b"PRIORITY=6\n", b"stderr": b"PRIORITY=3\n"}
_PARTIAL = b"CONTAINER_PARTIAL_MESSAGE=true\n"
_SEND_TIMEOUT_S = 1.0
_HASTY_NS = 5_000_000_000  # after a record that was not taken, others are not waited for
_TAKEN_NS = 500_000_000
_SIOCOUTQ = 0x5411  # unix(7): bytes that the receiver has not taken yet
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE: journald takes no memfd that could still change


class JournalLog(LineLog):
    """Fields of every record come ready made in the plan (CONTAINER_NAME, CONTAINER_ID_FULL, SYSLOG_IDENTIFIER…)."""

    def __init__(self, fields: dict[str, str], path: str = SOCKET) -> None:
        super().__init__()
        self._path = path
        self._fields = b"".join(field(name, value.encode("utf-8", "surrogateescape")) for name, value in fields.items())
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(_SEND_TIMEOUT_S)
        self._hasty_until_ns = 0
        self._lost = 0  # records since the last one that was taken
        self._reason = ""
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise LaunchError(
                "log",
                os_error_text(error, f"the journal at {path}"),
                hint="use --log-driver=k8s-file",
                errno=error.errno or 0,
            ) from error

    def _put(self, stream: bytes, pieces: list[tuple[bool, bytes]]) -> None:
        head = self._fields + _PRIORITY[stream]
        for whole, text in pieces:
            if not whole:
                self._record(head + _PARTIAL, text)
                continue
            for line in text[:-1].split(b"\n"):
                self._record(head, line)

    def _record(self, head: bytes, line: bytes) -> None:
        if self._lost:
            lost = f"[{self._lost} records of the log were lost: {self._reason}]".encode()
            if not self._send(self._fields + _PRIORITY[b"stderr"], lost):
                self._lost += 1
                return
            self._lost = 0
        if not self._send(head, line):
            # A journal that is slow to take records must not hold the container back again and again.
            self._lost = 1
            self._hasty_until_ns = time.monotonic_ns() + _HASTY_NS
            self._socket.settimeout(0)
        elif self._hasty_until_ns and time.monotonic_ns() > self._hasty_until_ns:
            self._hasty_until_ns = 0
            self._socket.settimeout(_SEND_TIMEOUT_S)

    def _send(self, head: bytes, line: bytes) -> bool:
        record = b"".join((head, b"MESSAGE=", line, b"\n"))
        for _ in range(2):
            try:
                self._socket.send(record)
            except OSError as error:
                self._reason = (
                    "the journal is not taking them" if isinstance(error, TimeoutError) else str(error.strerror)
                )
                if error.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                    return self._send_memfd(record)
                if error.errno in (errno.ECONNREFUSED, errno.ENOTCONN, errno.ENOENT) and self._reconnect():
                    continue  # journald was restarted
                return False
            return True
        return False

    def _reconnect(self) -> bool:
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._reason = str(error.strerror)
            return False
        return True

    def _send_memfd(self, record: bytes) -> bool:
        import fcntl  # C, for records that hardly ever come

        try:
            fd = os.memfd_create("journal-record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            self._reason = str(error.strerror)
            return False
        try:
            os.write(fd, record)
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            self._socket.sendmsg([], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _struct.pack("i", fd))])
        except OSError as error:
            self._reason = str(error.strerror)
            return False
        finally:
            os.close(fd)
        return True

    def reopen(self) -> None:
        """Nothing: the journal is no file of ours."""

    def close(self) -> None:
        """Record what is held, and close once the journal has taken all: `logs --follow` ends when we do."""
        import fcntl  # C, at the end of a container only

        self._flush(final=True)
        deadline_ns = time.monotonic_ns() + _TAKEN_NS
        try:
            while any(fcntl.ioctl(self._socket.fileno(), _SIOCOUTQ, bytes(4))) and time.monotonic_ns() < deadline_ns:
                time.sleep(0.001)
        except OSError:
            pass  # a kernel without it: nothing to wait by
        self._socket.close()


def field(name: str, value: bytes) -> bytes:
    """One field; a value with a newline in the form that can hold it.

    A name is 1 to 64 upper-case letters, digits and underscores, not beginning with a digit or an underscore (which
    is journald's own); any other is left out, as journald itself would.
    """
    plain = name.isascii() and name.replace("_", "A").isalnum() and name == name.upper()
    if not plain or not 0 < len(name) <= 64 or name[0] in "_0123456789":
        return b""
    if b"\n" in value:
        return name.encode() + b"\n" + _struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
