"""Where `save` writes: a tar archive or a directory, complete or not there at all.

Weight: `os`, `storage.blobs`.
"""

from __future__ import annotations

import os

from rootless.errors import Error, os_error_text
from rootless.fds import write_all
from storage import digest as digests
from storage.archive_files import DescriptorReader
from storage.blobs import no_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.compression import Reader

_CHUNK = 1 << 20


class Verified:
    """A reader that fails at its end unless the bytes were those that `digest` and `size` name."""

    def __init__(self, reader: Reader, digest: str, size: int, what: str) -> None:
        self._reader = reader
        self._digest = digest
        self._hash = digests.new(digests.split(digest)[0])
        self._left = size
        self._what = what

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        self._hash.update(data)
        self._left -= len(data)
        if not data and (self._left or self._hash.hexdigest() != digests.split(self._digest)[1]):
            raise Error(f"{self._what} in the store is damaged: it is not {self._digest}", hint="pull the image again")
        return data


class TarTarget:
    """A tar archive at a path (complete or not there) or on a descriptor."""

    def __init__(self, output: str | int) -> None:
        self._path = output if isinstance(output, str) else ""
        self._what = self._path or "the output"
        self._temporary = ""
        if isinstance(output, int):
            self._fd = os.dup(output)
            return
        try:
            if os.path.exists(output) and os.path.isfile(output) and os.path.getsize(output):
                raise Error(f"{output} exists already", hint="an archive is not added to: remove it first")
            if os.path.exists(output) and not os.path.isfile(output):
                self._fd = os.open(output, os.O_WRONLY | os.O_CLOEXEC)  # a FIFO, /dev/stdout
                return
            self._temporary = f"{output}.{os.getpid()}.tmp"
            self._fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            self._temporary = ""
            raise no_room(error, self._what) from error

    def directory(self, name: str) -> None:
        """A directory's member: some readers fail to make those that have none."""
        self._write(tar_header(name + "/", 0, 0o755, kind=b"5"))

    def file(self, name: str, data: bytes) -> None:
        """A small member."""
        self._write(tar_header(name, len(data)) + data + bytes(-len(data) % 512))

    def blob(self, name: str, fd: int, size: int, digest: str) -> None:
        """A member copied from a blob."""
        what = f"blob {digest}"
        self.stream(name, Verified(DescriptorReader(fd, what), digest, size, what), size)

    def stream(self, name: str, reader: Verified, size: int) -> None:
        """A member of exactly `size` bytes."""
        self._write(tar_header(name, size))
        while chunk := reader.read(_CHUNK):
            self._write(chunk)
        self._write(bytes(-size % 512))

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise no_room(error, f"cannot write {self._what}") from error

    def finish(self) -> None:
        """The end mark, and the file under its name."""
        self._write(bytes(1024))
        os.close(self._fd)
        self._fd = -1
        if self._temporary:
            try:
                os.rename(self._temporary, self._path)
            except OSError as error:
                raise Error(os_error_text(error, f"cannot write {self._what}")) from error

    def abandon(self) -> None:
        """Leave nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        if self._temporary:
            try:
                os.unlink(self._temporary)
            except FileNotFoundError:
                pass


class DirectoryTarget:
    """Files below a directory, which is made; what it holds of an earlier save is replaced.

    A blob that is there already stays, and each document is there whole or as it was: a layout that gets a further
    image is never without its others.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: list[str] = []
        self._made = False
        try:
            if os.path.exists(path) and not os.path.isdir(path):
                raise Error(f"{path} is no directory")
            self._made = not os.path.isdir(path)
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise no_room(error, f"cannot make {path}") from error

    def directory(self, name: str) -> None:
        """Made with what is put into it."""

    def _open(self, name: str) -> int:
        path = f"{self._path}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._written.append(path)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def file(self, name: str, data: bytes) -> None:
        """A small file."""
        try:
            temporary = f"{name}.{os.getpid()}.tmp"
            fd = self._open(temporary)
            try:
                write_all(fd, data)
            finally:
                os.close(fd)
            if not os.path.exists(f"{self._path}/{name}"):
                self._written.append(f"{self._path}/{name}")
            os.rename(f"{self._path}/{temporary}", f"{self._path}/{name}")
        except OSError as error:
            raise no_room(error, f"cannot write {self._path}/{name}") from error

    def blob(self, name: str, fd: int, size: int, digest: str) -> None:
        """A file copied from a blob, unless it is there."""
        what = f"blob {digest}"
        if self._is_there(name, size, digest):
            return
        reader = Verified(DescriptorReader(fd, what), digest, size, what)
        try:
            target = self._open(name)
            try:
                while chunk := reader.read(_CHUNK):
                    write_all(target, chunk)
            finally:
                os.close(target)
        except OSError as error:
            raise no_room(error, f"cannot write {self._path}/{name}") from error

    def _is_there(self, name: str, size: int, digest: str) -> bool:
        try:
            fd = os.open(f"{self._path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            reader = Verified(DescriptorReader(fd, name), digest, size, name)
            while reader.read(_CHUNK):
                pass
        except Error:
            return False
        finally:
            os.close(fd)
        return True

    def finish(self) -> None:
        """Nothing is left to do."""

    def abandon(self) -> None:
        """Remove what was written."""
        for path in self._written:
            try:
                os.unlink(path)
            except OSError:
                pass
        if self._made:
            import shutil

            shutil.rmtree(self._path, ignore_errors=True)


def tar_header(name: str, size: int, mode: int = 0o444, mtime: int = 0, kind: bytes = b"0") -> bytes:
    """A ustar header (POSIX.1-2017, pax), of a regular file unless said; sizes from 8 GiB on are in base 256.

    A name of more than 100 bytes (a sha512 blob's) gets a pax header before it.
    """
    digits = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    raw = name.encode()
    extended = b""
    if len(raw) > 100:
        record = b" path=" + raw + b"\n"
        length = len(record) + 2
        length += len(str(length)) - 2
        record = str(length).encode() + record
        extended = _header(b"pax", b"x", b"%011o\0" % len(record), mode, mtime) + record + bytes(-len(record) % 512)
    return extended + _header(raw[-100:], kind, digits, mode, mtime)


def _header(name: bytes, kind: bytes, size: bytes, mode: int, mtime: int) -> bytes:
    block = bytearray(512)
    block[0:100] = name.ljust(100, b"\0")
    block[100:148] = b"%07o\0%07o\0%07o\0%s%011o\0" % (mode, 0, 0, size, mtime)
    block[148:156] = b"        "
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
