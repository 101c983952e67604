"""DNS messages (RFC 1035), as far as a name server for containers needs them: one question in, addresses out.

Weight: `_socket`, `_struct`.  Pure.  Whatever bytes come in, `parse` returns a Question or raises Malformed.
"""

from __future__ import annotations

import _socket
import _struct

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
HEADER_BYTES = 12
MAX_MESSAGE = 65535
_PLAIN_UDP_BYTES = 512  # what a client takes that does not say more by EDNS (RFC 6891)
_MAX_UDP_BYTES = 4096
_MAX_NAME_BYTES = 255
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_IN, _ANY_CLASS = 1, 255

Labels = tuple[bytes, ...]


class Malformed(Exception):  # noqa: N818 - not an error of this program
    """`reply`: what to say to it; b"": nothing (it is no query, or too short to answer)."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__()
        self.reply = reply


class Question:
    """A query: its number, flags, name (labels in lower case), type, and where in the packet the question ends."""

    __slots__ = ("end", "flags", "id", "labels", "limit", "type")

    def __init__(self, number: int, flags: int, labels: Labels, kind: int, end: int, limit: int) -> None:
        self.id = number
        self.flags = flags
        self.labels = labels
        self.type = kind
        self.end = end
        self.limit = limit  # bytes that an answer over UDP may have


def parse(packet: bytes) -> Question:
    """The one question of a query.  Raises Malformed."""
    if len(packet) < HEADER_BYTES:
        raise Malformed
    number, flags, questions, answers, authorities, additional = _struct.unpack_from(">6H", packet)
    if flags & _QR:
        raise Malformed  # an answer: answering it could go round for ever
    if flags >> 11 & 15:
        raise Malformed(_failure(number, flags, NOTIMP))
    if questions != 1 or answers or authorities:
        raise Malformed(_failure(number, flags, FORMERR))
    labels, position = _name(packet, number, flags)
    if position + 4 > len(packet):
        raise Malformed(_failure(number, flags, FORMERR))
    kind, family = _struct.unpack_from(">2H", packet, position)
    if family not in (_IN, _ANY_CLASS):
        raise Malformed(_failure(number, flags, REFUSED))
    end = position + 4
    return Question(number, flags, labels, kind, end, _udp_limit(packet, end) if additional else _PLAIN_UDP_BYTES)


def _failure(number: int, flags: int, code: int) -> bytes:
    return bytes(_struct.pack(">6H", number, _QR | flags & (0x7800 | _RD) | _RA | code, 0, 0, 0, 0))


def _name(packet: bytes, number: int, flags: int) -> tuple[Labels, int]:
    labels: list[bytes] = []
    position, size = HEADER_BYTES, 1
    while True:
        if position >= len(packet):
            raise Malformed(_failure(number, flags, FORMERR))
        length = packet[position]
        position += 1
        if length == 0:
            return tuple(labels), position
        size += length + 1
        # 0xC0 marks a pointer to an earlier name, of which a first question has none.
        if length > 63 or size > _MAX_NAME_BYTES or position + length > len(packet):
            raise Malformed(_failure(number, flags, FORMERR))
        labels.append(packet[position : position + length].lower())
        position += length


def _udp_limit(packet: bytes, position: int) -> int:
    """From an OPT record right behind the question."""
    if position + 11 > len(packet) or packet[position] != 0:
        return _PLAIN_UDP_BYTES
    kind, size = _struct.unpack_from(">2H", packet, position + 1)
    return max(_PLAIN_UDP_BYTES, min(size, _MAX_UDP_BYTES)) if kind == OPT else _PLAIN_UDP_BYTES


def answer(
    packet: bytes, question: Question, code: int, records: tuple[tuple[int, bytes], ...] = (), *, stream: bool = False
) -> bytes:
    """A reply.  records: (type, data), which live for no time at all: containers come and go."""
    body = packet[HEADER_BYTES : question.end]
    for kind, data in records:
        body += _struct.pack(">3HIH", 0xC00C, kind, _IN, 0, len(data)) + data  # 0xC00C: the question's name
    flags = _QR | _AA | question.flags & _RD | _RA | code
    count = len(records)
    if HEADER_BYTES + len(body) > (MAX_MESSAGE if stream else question.limit):
        body, count, flags = packet[HEADER_BYTES : question.end], 0, flags | _TC  # to be asked again over TCP
    return bytes(_struct.pack(">6H", question.id, flags, 1, count, 0, 0)) + body


def address_record(address: str) -> tuple[int, bytes]:
    """An A or AAAA record's type and data."""
    if ":" in address:
        return AAAA, _socket.inet_pton(_socket.AF_INET6, address)
    return A, _socket.inet_pton(_socket.AF_INET, address)


def pointer_record(labels: Labels) -> tuple[int, bytes]:
    """A PTR record's type and data."""
    return PTR, b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def labels_of(name: str) -> Labels | None:
    """A host name as labels in lower case; None for one that DNS cannot hold."""
    parts = tuple(name.lower().rstrip(".").encode("utf-8", "replace").split(b"."))
    fits = all(0 < len(part) < 64 for part in parts) and sum(map(len, parts)) + len(parts) < _MAX_NAME_BYTES
    return parts if fits else None


def reversed_address(labels: Labels) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa stands for; "" for any other name."""
    try:
        if len(labels) == 6 and labels[4:] == (b"in-addr", b"arpa"):
            numbers = [int(label) for label in labels[3::-1] if label.isdigit()]
            return _socket.inet_ntoa(bytes(numbers)) if len(numbers) == 4 else ""
        if len(labels) == 34 and labels[32:] == (b"ip6", b"arpa") and all(len(label) == 1 for label in labels[:32]):
            return _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex(b"".join(labels[31::-1]).decode("ascii")))
    except ValueError:  # a number above 255, no hexadecimal digit, not ASCII
        return ""
    return ""


def is_answer_to(reply: bytes, query: bytes, end: int) -> bool:
    """Whether a packet from a name server answers this query (whose question ends at `end`): number and question."""
    return (
        len(reply) >= end
        and reply[:2] == query[:2]
        and bool(reply[2] & 0x80)
        and reply[HEADER_BYTES:end].lower() == query[HEADER_BYTES:end].lower()
    )
