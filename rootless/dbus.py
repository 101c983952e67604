"""A small D-Bus client for the systemd manager; `rootless.systemd` says what is asked of it.

Weight: `_socket`, `_struct` (C), `rootless.errors`.  Wire format and authentication: the D-Bus specification.

A connection speaks first and listens later: authentication and calls go out in one write, as sd-bus does, so other
work fits between a question and its answer.

Works inside a user namespace: the manager sees this process by its uid on the host (SO_PEERCRED), so that uid, not
the one inside, is what EXTERNAL has to name.
"""

from __future__ import annotations

import _socket
import _struct
import os
import time

from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_NO_REPLY = 1
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
MALFORMED: type[Exception] = getattr(_struct, "error")  # noqa: B009 - the stubs of _struct leave it out
_BEGIN = b"BEGIN\r\n"
_GREETING_BYTES = 256  # read at once by the manager while it waits for the greeting
_MAX_MESSAGE = 1 << 27  # the specification's bound of a message

_FIXED = {"y": ("B", 1), "b": ("I", 4), "n": ("h", 2), "q": ("H", 2), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8)}
_FIXED.update({"t": ("Q", 8), "d": ("d", 8)})
_ALIGNMENT = {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8, **{k: size for k, (_, size) in _FIXED.items()}}


class BusError(Error):
    """No bus, or the manager refused; `name` is the D-Bus error's name ("" for the connection itself)."""

    def __init__(self, message: str, hint: str = "", name: str = "") -> None:
        super().__init__(message, hint)
        self.name = name


# --- marshalling ---------------------------------------------------------------------------------


def _first_type(signature: str) -> int:
    """The length of the first complete type."""
    if signature[0] == "a":
        return 1 + _first_type(signature[1:])
    if signature[0] in "({":
        depth = 0
        for position, char in enumerate(signature):
            depth += (char in "({") - (char in ")}")
            if not depth:
                return position + 1
        raise ValueError(f"signature {signature!r} is not closed")
    return 1


def _types(signature: str) -> list[str]:
    found = []
    while signature:
        length = _first_type(signature)
        found.append(signature[:length])
        signature = signature[length:]
    return found


def _pad(out: bytearray, alignment: int) -> None:
    out += b"\0" * (-len(out) % alignment)


def _put(out: bytearray, kind: str, value: Any) -> None:
    code = kind[0]
    _pad(out, _ALIGNMENT[code])
    if code in _FIXED:
        out += _struct.pack("<" + _FIXED[code][0], value)
    elif code in "so":
        data = value.encode("utf-8")
        out += _struct.pack("<I", len(data)) + data + b"\0"
    elif code == "g":
        out += bytes((len(value),)) + value.encode("ascii") + b"\0"
    elif code == "v":
        signature, inner = value
        _put(out, "g", signature)
        _put(out, signature, inner)
    elif code == "a":
        mark = len(out)
        out += b"\0\0\0\0"
        _pad(out, _ALIGNMENT[kind[1]])  # not counted in the array's length
        start = len(out)
        for item in value:
            _put(out, kind[1:], item)
        out[mark : mark + 4] = _struct.pack("<I", len(out) - start)
    else:
        for inner_kind, item in zip(_types(kind[1:-1]), value, strict=True):
            _put(out, inner_kind, item)


def marshal(signature: str, *values: Any) -> bytes:
    """Values of `signature` in little-endian wire format; a variant is (signature, value)."""
    out = bytearray()
    for kind, value in zip(_types(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _get(data: bytes, at: int, kind: str, order: str) -> tuple[Any, int]:
    code = kind[0]
    at += -at % _ALIGNMENT[code]
    if code in _FIXED:
        letter, size = _FIXED[code]
        (value,) = _struct.unpack_from(order + letter, data, at)
        return (bool(value) if code == "b" else value), at + size
    if code in "so":
        (length,) = _struct.unpack_from(order + "I", data, at)
        return data[at + 4 : at + 4 + length].decode("utf-8", "replace"), at + 5 + length
    if code == "g":
        length = data[at]
        return data[at + 1 : at + 1 + length].decode("ascii", "replace"), at + 2 + length
    if code == "v":
        signature, at = _get(data, at, "g", order)
        return _get(data, at, signature, order)
    if code == "a":
        (length,) = _struct.unpack_from(order + "I", data, at)
        at += 4
        at += -at % _ALIGNMENT[kind[1]]
        items, end = [], at + length
        while at < end:
            item, at = _get(data, at, kind[1:], order)
            items.append(item)
        return items, at
    values = []
    for inner_kind in _types(kind[1:-1]):
        value, at = _get(data, at, inner_kind, order)
        values.append(value)
    return tuple(values), at


def unmarshal(signature: str, data: bytes, order: str = "<") -> list[Any]:
    """The values of a message's body; arrays as lists, structures and dictionary entries as tuples."""
    values, at = [], 0
    for kind in _types(signature):
        value, at = _get(data, at, kind, order)
        values.append(value)
    return values


class Message:
    """One received message."""

    __slots__ = ("body", "fields", "kind", "serial")

    def __init__(self, kind: int, serial: int, fields: dict[int, Any], body: list[Any]) -> None:
        self.kind, self.serial, self.fields, self.body = kind, serial, fields, body


def _call_bytes(serial: int, target: tuple[str, str, str], member: str, body: tuple[str, bytes], flags: int) -> bytes:
    destination, path, interface = target
    signature, data = body
    fields = [
        (_PATH, ("o", path)),
        (_INTERFACE, ("s", interface)),
        (_MEMBER, ("s", member)),
        (_DESTINATION, ("s", destination)),
    ]
    if signature:
        fields.append((_SIGNATURE, ("g", signature)))
    head = bytearray(marshal("yyyyuua(yv)", ord("l"), _CALL, flags, 1, len(data), serial, fields))
    _pad(head, 8)
    return bytes(head) + data


# --- the connection ------------------------------------------------------------------------------


def manager_sockets(env: Mapping[str, str], uid: int, run: str = "/run") -> list[tuple[str, bool]]:
    """Where `uid`'s systemd manager may be reached: (socket, is a bus with names), the manager's own first.

    A socket's path, or "@name" for an abstract one.  Only those that exist are listed.  The manager's own socket is
    the one that systemctl uses; a DBUS_SESSION_BUS_ADDRESS may be a desktop's bus without a manager behind it.
    """
    if uid == 0:
        found = [(f"{run}/systemd/private", False), (f"{run}/dbus/system_bus_socket", True)]
        return [row for row in found if os.path.exists(row[0])] if os.path.isdir(f"{run}/systemd/system") else []
    directories = [env.get("XDG_RUNTIME_DIR", ""), f"{run}/user/{uid}"]
    found = []
    for directory in dict.fromkeys(d for d in directories if d.startswith("/")):
        found += [(f"{directory}/systemd/private", False), (f"{directory}/bus", True)]
    found = [row for row in found if os.path.exists(row[0])]
    for address in _addresses(env.get("DBUS_SESSION_BUS_ADDRESS", "")):
        row = (address, True)
        if row not in found and (address.startswith("@") or os.path.exists(address)):
            found.append(row)
    return found


def _addresses(text: str) -> list[str]:
    """Unix sockets of a D-Bus address list, `unix:path=/run/user/1000/bus;unix:abstract=/tmp/x,guid=…`."""
    found = []
    for address in text.split(";"):
        transport, _, options = address.partition(":")
        if transport != "unix":
            continue
        for option in options.split(","):
            key, _, value = option.partition("=")
            if key in ("path", "abstract"):
                found.append(("@" if key == "abstract" else "") + _unescape(value))
    return found


def _unescape(text: str) -> str:
    first, *rest = text.split("%")
    out = first.encode("utf-8", "surrogateescape")
    for part in rest:
        try:
            out += bytes((int(part[:2], 16),)) + part[2:].encode("utf-8", "surrogateescape")
        except ValueError:
            out += b"%" + part.encode("utf-8", "surrogateescape")
    return out.decode("utf-8", "surrogateescape")


class Connection:
    """A connection to a manager or a bus.  Every wait ends by `deadline` (of time.monotonic)."""

    def __init__(self, path: str, is_bus: bool, uid: int, timeout_s: float = 25.0) -> None:
        self._serial = 0
        self._received = b""
        self._queue: list[Message] = []
        self._authenticated = False
        self.deadline = time.monotonic() + timeout_s
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            self._socket.close()
            raise BusError(f"cannot reach systemd at {path}: {error.strerror or error}") from error
        identity = str(uid).encode().hex().encode()
        self._out = b"\0AUTH EXTERNAL " + identity + b"\r\n" + _BEGIN
        if is_bus:
            self.post(_BUS, "Hello", "")
        self._is_bus = is_bus

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def post(self, target: tuple[str, str, str], member: str, signature: str, *values: Any, flags: int = 0) -> int:
        """Queue a call for the next `flush`; its serial."""
        self._serial += 1
        self._out += _call_bytes(self._serial, target, member, (signature, marshal(signature, *values)), flags)
        return self._serial

    def flush(self) -> None:
        """Send what is queued."""
        if not (self._authenticated or self._is_bus) and len(self._out) <= _GREETING_BYTES:
            # What the manager's own socket has read along with the greeting it looks at only when more comes.
            end = self._out.index(_BEGIN) + len(_BEGIN)
            self._send(self._out[:end])
            self._out = self._out[end:]
            self._authenticate()
        self._send(self._out)
        self._out = b""

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(max(self.deadline - time.monotonic(), 0.001))
            self._socket.sendall(data)
        except OSError as error:
            raise BusError(f"systemd ended the connection: {error.strerror or error}") from error

    def _authenticate(self) -> None:
        line = self._take_until(b"\r\n")
        if not line.startswith(b"OK "):
            raise BusError(f"systemd refused this user: {line.decode('ascii', 'replace')}")
        self._authenticated = True

    def call(self, member: str, signature: str, *values: Any) -> list[Any]:
        """A method of the manager, and its answer.  Raises BusError."""
        return self._ask(MANAGER, member, signature, *values)

    def properties(self, path: str, interface: str) -> dict[str, Any]:
        """All properties of an object of the manager, as `GetAll` gives them."""
        target = (MANAGER[0], path, "org.freedesktop.DBus.Properties")
        (rows,) = self._ask(target, "GetAll", "s", interface)
        return dict(rows)

    def _ask(self, target: tuple[str, str, str], member: str, signature: str, *values: Any) -> list[Any]:
        serial = self.post(target, member, signature, *values)
        self.flush()
        return self.answer(serial)

    def listen(self, member: str) -> None:
        """Queue a subscription to a signal of the manager.  Its own socket sends them all without being asked."""
        if self._is_bus:
            rule = f"type='signal',sender='{MANAGER[0]}',interface='{MANAGER[2]}',member='{member}'"
            self.post(_BUS, "AddMatch", "s", rule, flags=_NO_REPLY)
            self.post(MANAGER, "Subscribe", "", flags=_NO_REPLY)

    def answer(self, serial: int) -> list[Any]:
        """The reply to one call; signals that come before it are kept.  Raises BusError."""
        while True:
            for position, message in enumerate(self._queue):
                if message.fields.get(_REPLY_SERIAL) == serial:
                    del self._queue[position]
                    if message.kind == _ERROR:
                        text = message.body[0] if message.body else ""
                        raise BusError(f"systemd: {text}", name=message.fields.get(_ERROR_NAME, ""))
                    return message.body
            self._queue.append(self._next())

    def signal(self, member: str) -> list[Any]:
        """The body of the next signal of this name, kept or awaited.  Raises BusError."""
        while True:
            for position, message in enumerate(self._queue):
                if message.kind == _SIGNAL and message.fields.get(_MEMBER) == member:
                    del self._queue[position]
                    return message.body
            self._queue.append(self._next())

    def _next(self) -> Message:
        if not self._authenticated:
            self._authenticate()
        head = self._take(16)
        order = "<" if head[:1] == b"l" else ">"
        length, serial, fields_length = _struct.unpack_from(order + "III", head, 4)
        fields_size = fields_length + -fields_length % 8
        if length + fields_size > _MAX_MESSAGE:
            raise BusError("systemd sent a message beyond the protocol's bounds")
        fields_data = self._take(fields_size)
        body = self._take(length)
        try:
            rows, _ = _get(head + fields_data, 12, "a(yv)", order)  # alignment counts from the message's start
            fields = dict(rows)
            values = unmarshal(fields.get(_SIGNATURE, ""), body, order)
        except (ValueError, IndexError, KeyError, MALFORMED) as error:
            raise BusError(f"systemd sent a malformed message: {error}") from error
        return Message(head[1], serial, fields, values)

    def _fill(self) -> None:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise BusError("systemd did not answer in time")
        self._socket.settimeout(remaining)
        try:
            part = self._socket.recv(1 << 16)
        except TimeoutError:
            raise BusError("systemd did not answer in time") from None
        except OSError as error:
            raise BusError(f"systemd ended the connection: {error.strerror or error}") from error
        if not part:
            raise BusError("systemd ended the connection")
        self._received += part

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._fill()
        part, self._received = self._received[:size], self._received[size:]
        return part

    def _take_until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            if len(self._received) > 4096:
                raise BusError("systemd's answer is not D-Bus")
            self._fill()
        line, _, self._received = self._received.partition(mark)
        return line
