"""What one tree has otherwise than another: `diff`.

Weight: `storage.layerview`.  Directories that both trees take from the same layers are not looked into, so a
container is compared with its image in the time that its own changes take.
"""

from __future__ import annotations

import stat

from storage.layerview import LayerView, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ADDED, CHANGED, DELETED = "A", "C", "D"

# Where the engine and the OCI runtime put files of their own: not the container's changes (podman-diff(1)).
_ENGINES = frozenset(
    (
        *("dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab", "proc", "run", "run/.containerenv"),
        *("run/notify", "run/podman-init", "run/secrets", "sys"),
    )
)


def is_engines_own(path: bytes) -> bool:
    """Whether a path is where the engine mounts something in every container."""
    return path.decode("utf-8", "surrogateescape") in _ENGINES


def compare(new: LayerView, old: LayerView) -> list[tuple[str, bytes]]:
    """(kind, path without its first "/") of all that differs, in the order of paths."""
    shared = len(old.directories)
    stacked = not shared or new.directories[-shared:] == old.directories
    found = _Comparison(new, old, stacked)
    found.directory(new.root(), old.root() if shared else None)
    return sorted(found.changes, key=lambda change: change[1])


class _Comparison:
    """stacked: `new` is made of layers on top of `old`'s, so that a file from another layer was written there."""

    def __init__(self, new: LayerView, old: LayerView, stacked: bool) -> None:
        self._new = new
        self._old = old
        self._stacked = stacked
        self.changes: list[tuple[str, bytes]] = []

    def _note(self, kind: str, path: bytes) -> bool:
        if is_engines_own(path):
            return False
        self.changes.append((kind, path))
        return True

    def _layers(self, view: LayerView, node: Node) -> list[str]:
        return [view.directories[layer] for layer in node.dirs]

    def directory(self, new: Node, old: Node | None) -> bool:
        """Compare two directories that are both there; whether anything in them differs."""
        if old is not None and self._layers(self._new, new) == self._layers(self._old, old):
            return False
        below = self._new.children(new)
        before = self._old.children(old) if old is not None else {}
        if old is not None and new.path and new.opaque and self._stacked and not old.opaque:
            # Removed and made again.
            self._note(DELETED, new.path)
            for node in below.values():
                self._added(node)
            return False
        differs = False
        for name, node in below.items():
            differs = self._entry(node, before.pop(name, None)) or differs
        for node in before.values():
            differs = self._note(DELETED, node.path) or differs
        return differs

    def _entry(self, node: Node, former: Node | None) -> bool:
        if former is None:
            return self._added(node)
        if node.is_directory and former.is_directory:
            count = len(self.changes)
            inside = self.directory(node, former)
            if (DELETED, node.path) in self.changes[count : count + 1]:
                return True
            if inside or not _are_alike(node, former):
                self._note(CHANGED, node.path)
                return True
            return False
        if node.is_directory and not former.is_directory:
            self._added(node)
            self.changes[self.changes.index((ADDED, node.path))] = (CHANGED, node.path)
            return True
        if self._new.directories[node.layer] == self._old.directories[former.layer]:
            return False
        if self._stacked or self._differs(node, former):
            return self._note(CHANGED, node.path)
        return False

    def _differs(self, node: Node, former: Node) -> bool:
        if not _are_alike(node, former) or node.held.st_size != former.held.st_size:
            return True
        return stat.S_ISLNK(node.held.st_mode) and self._new.link(node) != self._old.link(former)

    def _added(self, node: Node) -> bool:
        noted = self._note(ADDED, node.path)
        for inner in self._tree(node):
            noted = self._note(ADDED, inner.path) or noted
        return noted

    def _tree(self, node: Node) -> Iterator[Node]:
        pending = [node]
        while pending:
            current = pending.pop()
            if current.is_directory:
                for child in self._new.children(current).values():
                    yield child
                    pending.append(child)


def _are_alike(node: Node, former: Node) -> bool:
    """By mode, owner, device and time; archives know whole seconds only."""
    new, old = node.held, former.held
    if (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev):
        return False
    if new.st_mtime_ns % 10**9 and old.st_mtime_ns % 10**9:
        return new.st_mtime_ns == old.st_mtime_ns
    return new.st_mtime_ns // 10**9 == old.st_mtime_ns // 10**9
