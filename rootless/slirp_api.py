"""slirp4netns's API socket: publish ports.  Spoken by the supervisor, before the container starts.

Weight: `os`, `_socket`, `rootless.values`, `rootless.errors`; `rootless.udp_relay` for UDP ports.
One request a connection; the end of the request is a shutdown of the writing side (slirp4netns(1), API SOCKET).
"""

from __future__ import annotations

import _socket
import os

from rootless.errors import LaunchError, os_error_text
from rootless.host_ports import STAGE, bind, bind_error, check_free, shown, socket_for
from rootless.values import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.loop import Loop
    from rootless.plan import PortForward
    from rootless.udp_relay import UdpRelay

_ANSWER_TIMEOUT_S = 10.0
_MAX_ANSWER = 16 << 20  # list_hostfwd with all 65535 ports of both protocols


class Publisher:
    """The published ports of one container.

    To be made in the host's network namespace, before the supervisor leaves it for the container's: a socket belongs
    to the namespace that it was made in.  Making it finds the ports that are in use, before anything was started.
    """

    def __init__(self, ports: Iterable[PortForward], host_loopback: bool = False) -> None:
        """host_loopback: slirp4netns may reach the host's loopback.  Raises LaunchError naming a port and its fault."""
        self._ports = tuple(ports)
        self._probes: dict[str, _socket.socket] = {}
        self._relays: dict[PortForward, UdpRelay] = {}
        try:
            for port in self._ports:
                check_free(port)
                if port.protocol not in self._probes:
                    self._probes[port.protocol] = socket_for(port)
                if port.protocol == "udp" and port.host_ip in ("0.0.0.0", "127.0.0.1") and not host_loopback:
                    from rootless.udp_relay import UdpRelay  # only for such ports

                    # slirp4netns drops what goes back to the host's loopback unless it may reach all of it.
                    self._relays[port] = UdpRelay("127.0.0.1", port.host_port, port.container_port)
        except BaseException:
            self.close()
            raise

    def publish(self, api_socket: str, loop: Loop) -> None:
        """Have slirp4netns listen on every port; to be called in the container's namespace, with its tap there.

        Raises LaunchError naming the first port that cannot be had, and why.
        """
        for port in self._ports:
            relay = self._relays.get(port)
            if relay is None or port.host_ip == "0.0.0.0":
                self._add(api_socket, port)
            if relay is not None:
                try:
                    relay.start(loop, beside=port.host_ip == "0.0.0.0")
                except OSError as error:
                    raise bind_error(port, error) from error
        self._close_probes()

    def _add(self, api_socket: str, port: PortForward) -> None:
        arguments = {
            "proto": port.protocol,
            "host_addr": port.host_ip,
            "host_port": port.host_port,
            "guest_port": port.container_port,
        }
        answer = call(api_socket, {"execute": "add_hostfwd", "arguments": arguments})
        if "error" in answer:
            bind(self._probes[port.protocol], port)  # says why, in the kernel's words
            raise LaunchError(STAGE, f"slirp4netns cannot publish {shown(port)}: {_reason(answer['error'])}")

    def _close_probes(self) -> None:
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()

    def close(self) -> None:
        """The relays' ports are free again; slirp4netns frees its own when it ends."""
        self._close_probes()
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()


def list_hostfwd(api_socket: str) -> list[dict[str, Any]]:
    """What is published: dicts of id, proto, host_addr, host_port, guest_addr, guest_port."""
    answer = call(api_socket, {"execute": "list_hostfwd"})
    # Releases up to 1.2 leave out the "return" that the manual promises.
    held = answer.get("return", answer)
    entries = held.get("entries") if isinstance(held, dict) else None
    if not isinstance(entries, list):
        raise LaunchError(STAGE, f"slirp4netns did not list its ports: {_reason(answer.get('error'))}")
    return entries


def call(api_socket: str, request: dict[str, object]) -> dict[str, Any]:
    """Send one request, return the answer's object.  Raises LaunchError."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    directory, name = os.path.split(api_socket)
    # By descriptor: sun_path holds 107 bytes, and the runtime directory may be deep.
    directory_fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        link.settimeout(_ANSWER_TIMEOUT_S)
        link.connect(f"/proc/self/fd/{directory_fd}/{name}")
        link.sendall(dumps(request).encode())
        link.shutdown(_socket.SHUT_WR)
        data = bytearray()
        while len(data) < _MAX_ANSWER and (chunk := link.recv(65536)):
            data += chunk
    except TimeoutError as error:
        raise LaunchError(STAGE, f"slirp4netns did not answer on {api_socket}") from error
    except OSError as error:
        raise LaunchError(
            STAGE, os_error_text(error, f"slirp4netns on {api_socket}"), errno=error.errno or 0
        ) from error
    finally:
        link.close()
        os.close(directory_fd)
    try:
        answer = loads(bytes(data))
    except ValueError as error:
        raise LaunchError(STAGE, f"slirp4netns answered {bytes(data[:80])!r}: {error}") from error
    if not isinstance(answer, dict):
        raise LaunchError(STAGE, f"slirp4netns answered {bytes(data[:80])!r}")
    return answer


def _reason(error: object) -> str:
    if isinstance(error, dict):
        return str(error.get("desc", error))
    return str(error)
