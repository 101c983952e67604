"""The wire format and the connection, against a peer that answers from bytes."""

import os
import socket
import struct
import threading

import pytest

from rootless import dbus, systemd


def test_marshalling_is_the_specification_s():
    # the alignment of each type, and an array's length without its padding
    assert dbus.marshal("y", 1) == b"\1"
    assert dbus.marshal("yu", 1, 2) == b"\1\0\0\0\2\0\0\0"
    assert dbus.marshal("s", "ab") == b"\2\0\0\0ab\0"
    assert dbus.marshal("g", "au") == b"\2au\0"
    assert dbus.marshal("yt", 1, 2) == b"\1" + b"\0" * 7 + b"\2" + b"\0" * 7
    assert dbus.marshal("au", [1, 2]) == b"\x08\0\0\0\1\0\0\0\2\0\0\0"
    assert dbus.marshal("at", []) == b"\0\0\0\0\0\0\0\0"
    assert dbus.marshal("at", [3]) == b"\x08\0\0\0\0\0\0\0\3" + b"\0" * 7
    assert dbus.marshal("v", ("b", True)) == b"\1b\0\0\1\0\0\0"


VALUES = [
    ("ybnqiuxtd", (1, True, -2, 3, -4, 5, -6, 2**64 - 1, 0.5)),
    ("sog", ("käse", "/a/b", "a(sv)")),
    ("a(yv)", ([(1, ("s", "x")), (2, ("u", 7))],)),
    ("a{sv}a(sa(sv))", ([("k", ("au", [1, 2]))], [("w", [("p", ("b", False))])])),
    ("yaas", (1, [["a"], [], ["b", "c"]])),
]


@pytest.mark.parametrize(("signature", "values"), VALUES, ids=[s for s, _ in VALUES])
def test_round_trip(signature, values):
    def plain(value):  # a variant comes back as its value alone
        if (
            isinstance(value, tuple)
            and len(value) == 2
            and isinstance(value[0], str)
            and value[0] in ("s", "u", "au", "b")
        ):
            return plain(value[1])
        if isinstance(value, list):
            return [plain(v) for v in value]
        return tuple(plain(v) for v in value) if isinstance(value, tuple) else value

    assert dbus.unmarshal(signature, dbus.marshal(signature, *values)) == [plain(v) for v in values]


def test_addresses():
    text = "unix:path=/run/user/1000/bus;tcp:host=x;unix:abstract=/tmp/dbus-1,guid=00;unix:path=/a%20b%2c"
    assert dbus._addresses(text) == ["/run/user/1000/bus", "@/tmp/dbus-1", "/a b,"]
    assert dbus._addresses("autolaunch:") == []


def test_sockets_of_the_manager(tmp_path):
    home = tmp_path / "user/1000"
    (home / "systemd").mkdir(parents=True)
    assert dbus.manager_sockets({}, 1000, str(tmp_path)) == []
    (home / "bus").touch()
    (home / "systemd/private").touch()
    expected = [(f"{home}/systemd/private", False), (f"{home}/bus", True)]
    assert dbus.manager_sockets({}, 1000, str(tmp_path)) == expected
    env = {"XDG_RUNTIME_DIR": str(home), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={home}/bus;unix:abstract=x"}
    assert dbus.manager_sockets(env, 1000, str(tmp_path)) == [*expected, ("@x", True)]
    assert dbus.manager_sockets({}, 0, str(tmp_path)) == []  # not booted by systemd


class Peer(threading.Thread):
    """Accepts one connection and plays `answer(serials, connection)`."""

    def __init__(self, tmp_path, answer, ok=b"OK 0123\r\n"):
        super().__init__(daemon=True)
        self.path = str(tmp_path / "bus")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.answer, self.ok, self.seen = answer, ok, b""
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        while b"StartTransientUnit" not in self.seen and (part := connection.recv(65536)):
            self.seen += part
        connection.sendall(self.ok)
        self.answer(connection)
        connection.close()


def message(kind, serial, fields, signature="", *values):
    body = dbus.marshal(signature, *values)
    rows = [*fields, *([(8, ("g", signature))] if signature else [])]
    head = dbus.marshal("yyyyuua(yv)", ord("l"), kind, 0, 1, len(body), serial, rows)
    return head + b"\0" * (-len(head) % 8) + body


def reply(serial, signature="", *values):
    return message(2, 90, [(5, ("u", serial))], signature, *values)


def removed(job, result="done"):
    return message(4, 91, [(1, ("o", "/o")), (3, ("s", "JobRemoved"))], "uoss", 1, job, "x.scope", result)


def error(serial, name, text):
    return message(3, 92, [(5, ("u", serial)), (4, ("s", name))], "s", text)


def start(peer, timeout_s=5.0):
    pending = systemd.start_scope_begin("x.scope", [1], [(peer.path, False)], 1000, timeout_s=timeout_s)
    try:
        return systemd.start_scope_finish(pending)
    finally:
        pending.connection.close()
        peer.join(5)


def test_the_uid_of_the_host_is_named_and_the_job_is_awaited(tmp_path):
    def answer(connection):
        # a job may be done before its number is told
        connection.sendall(removed("/job/other") + removed("/job/7") + reply(1, "o", "/job/7"))

    peer = Peer(tmp_path, answer)
    assert start(peer) == "x.scope"
    assert peer.seen.startswith(b"\0AUTH EXTERNAL " + b"1000".hex().encode() + b"\r\nBEGIN\r\n")


def test_a_name_that_still_exists_is_not_the_end(tmp_path):
    def answer(connection):
        connection.sendall(error(1, "org.freedesktop.systemd1.UnitExists", "Unit x.scope already exists."))
        connection.recv(65536)
        connection.sendall(reply(2, "o", "/job/8") + removed("/job/8"))

    assert start(Peer(tmp_path, answer)) == "x-2.scope"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda c: c.sendall(error(1, "org.x.Denied", "Access denied")), "systemd: Access denied"),
        (lambda c: c.sendall(reply(1, "o", "/j") + removed("/j", "failed")), "could not start x.scope: failed"),
        (lambda c: None, "systemd ended the connection"),
        (lambda c: c.sendall(b"\xff" * 40), "systemd"),
        (lambda c: c.sendall(struct.pack("<BBBBIII", ord("l"), 2, 0, 1, 0, 1, 8) + b"\xff" * 8), "malformed"),
        (lambda c: c.recv(1), "did not answer in time"),
    ],
    ids=["error", "job failed", "end", "garbage", "malformed", "silence"],
)
def test_failures_are_one_clear_error(tmp_path, answer, text):
    with pytest.raises(dbus.BusError, match=text):
        start(Peer(tmp_path, answer), timeout_s=0.5)


def test_a_short_call_waits_for_the_greeting(tmp_path):
    class Slow(Peer):
        def run(self):
            connection, _ = self.listener.accept()
            self.seen = connection.recv(65536)
            connection.sendall(self.ok)
            connection.recv(65536)
            connection.sendall(reply(1, "o", "/unit"))

    peer = Slow(tmp_path, None)
    connection = systemd.connect([(peer.path, False)], 1000, 5.0)
    assert connection.call("GetUnit", "s", "x.service") == ["/unit"]
    connection.close()
    assert peer.seen.endswith(b"BEGIN\r\n")


def test_a_refused_user(tmp_path):
    with pytest.raises(dbus.BusError, match="refused this user: REJECTED EXTERNAL"):
        start(Peer(tmp_path, lambda _c: None, ok=b"REJECTED EXTERNAL\r\n"))


def test_nobody_there(tmp_path):
    with pytest.raises(dbus.BusError, match="no systemd user manager") as caught:
        systemd.connect([], 1000)
    assert "enable-linger" in caught.value.hint
    with pytest.raises(dbus.BusError, match=r"cannot reach systemd at .*absent: No such file"):
        systemd.connect([(f"{tmp_path}/absent", False)], os.getuid())
