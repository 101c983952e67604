"""What a request depends on beside the command line: defaults of the site, the caller, the image, other containers.

Weight: `pyctl.engine.config`, `rootless.values`, `rootless.errors`.
"""

from __future__ import annotations

from pyctl.engine.config import Config
from rootless.errors import UsageError
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyctl.engine.model import IdRange, Mount
    from rootless.netplan import NetworkConfig
    from storage.imageconfig import ImageConfig

    class Options(Protocol):
        """Parsed options, by field name: "cpu_shares" for --cpu-shares.

        Sizes are bytes, times nanoseconds, numbers int or float, repeatable options tuples of str,
        -1 stands for the words "-1" and "disable"; what was not given has the table's default.
        """

        def get(self, field: str, default: Any = None) -> Any: ...

        def given(self, field: str) -> bool: ...

    class Lookups(Protocol):
        """What only the state knows; asked only by options that need it."""

        def container_id(self, name: str) -> str:
            """The full id of a container by name, id or prefix.  Raises NotFound."""
            ...

        def mounts(self, name: str) -> tuple[Mount, ...]:
            """What a container, by name, id or prefix, has mounted.  Raises NotFound."""
            ...

        def network(self, name: str) -> NetworkConfig:
            """A user-defined network by name, id or prefix; "bridge" is the default one.  Raises NotFound."""
            ...

        def taken_ids(self) -> tuple[IdRange, ...]:
            """The ranges that other containers of --userns=auto hold."""
            ...


class RequestFacts(Value):
    """The caller and the host.

    rlimits: "nofile" → (soft, hard), -1 for no limit; uid_count, gid_count: ids of the engine's user namespace.
    """

    uid: int
    gid: int
    cwd: str
    environ: dict[str, str] = {}
    uid_count: int = 1
    gid_count: int = 1
    rlimits: dict[str, tuple[int, int]] = {}
    oom_score_adj: int = 0  # this process's own: only root may go below
    host_name: str = "localhost"
    selinux: bool = False
    apparmor: bool = False
    subuid_ranges: tuple[tuple[int, int], ...] = ()  # (first, count) on the host, in the order they are mapped
    subgid_ranges: tuple[tuple[int, int], ...] = ()
    zoneinfo: str = "/usr/share/zoneinfo"
    defaults: Config = Config()


class ImageChoice(Value):
    """The image that a container is made from, or `rootfs` in its place.

    config: a storage.imageconfig.ImageConfig; None with `rootfs`.
    """

    name: str = ""  # as the user named it, resolved
    id: str = ""  # hex digits
    digest: str = ""
    config: ImageConfig | None = None
    rootfs: str = ""  # --rootfs: DIR or DIR:O


def refused(option: str, value: object, reason: str, hint: str = "") -> UsageError:
    """To be raised: `--memory 12q: not a size`.  The value is quoted where a shell would need it to be."""
    text = str(value)
    plain = text and text.isprintable() and text.isascii() and not any(c in text for c in " '\"\\$`;&|<>*?#~")
    return UsageError(f"{option} {text if plain else repr(text)}: {reason}", hint)
