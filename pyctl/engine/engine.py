"""One command's view of the engine: settings, directories, the database, each found when it is first asked for.

Weight: `pyctl.engine.config`, `storage.paths`; the database is opened by the first verb that needs it.
"""

from __future__ import annotations

import os
import sys

from pyctl.engine import config as config_
from pyctl.engine import hooks
from pyctl.engine.runtime_root import runtime_directory
from rootless import userns
from rootless.errors import Error
from rootless.fds import read_file
from rootless.headstart import child_environment
from storage import hooks as storage_hooks
from storage.paths import StorePaths, locate_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Options
    from pyctl.engine.config import Config
    from pyctl.engine.request_facts import RequestFacts
    from pyctl.engine.state import ContainerRecord
    from rootless.idmap import IdMap
    from storage.database import Database
    from storage.reference import Reference
    from storage.registries_conf import RegistriesConf


class Engine:
    """See the module's docstring.

    globals_: the options that stand before any command; writes: whether the command may leave files, be it a cache.
    """

    def __init__(self, globals_: Options, writes: bool = True) -> None:
        self.globals = globals_
        self.writes = writes
        self.debug = globals_.log_level in ("debug", "trace")
        self._config: Config | None = None
        self._paths: StorePaths | None = None
        self._db: Database | None = None
        self._runtime_root = ""
        self._registries: RegistriesConf | None = None
        self._id_map: IdMap | None = None
        self.single_id_told = False

    @property
    def uid(self) -> int:
        """The caller's uid on the host, also from inside the user namespace."""
        return userns.host_uid()

    @property
    def config(self) -> Config:
        """The settings of all files."""
        if self._config is None:
            self._config = config_.load(os.environ, self.uid, keep=self.writes).config
        return self._config

    @property
    def paths(self) -> StorePaths:
        """The store's layout."""
        if self._paths is None:
            choice = locate_root(
                os.environ.get("HOME", ""),
                self.uid,
                configured=self.globals.root or self.config.root,
                data_home=os.environ.get("XDG_DATA_HOME", ""),
                local=self.config.local_root,
            )
            if choice.note:
                self.warn(choice.note)
            self._paths = StorePaths(choice.root)
        return self._paths

    @property
    def db(self) -> Database:
        """The state database, opened."""
        if self._db is None:
            from storage.database import open_database

            self._db = open_database(self.paths)
            hooks.on_abandoned = self._remove_later
            storage_hooks.short_names = self._short_names
            if self.config.additional_stores:
                self._add_stores()
            self._heal_network()
        return self._db

    def _add_stores(self) -> None:
        from storage import additional, blobs, lookup

        roots = []
        for root in self.config.additional_stores:
            reason = "" if root == self.paths.root else additional.obstacle(root)
            if reason:
                self.warn(f"additional store {root} is left out: {reason}")
            elif root != self.paths.root and not additional.is_podmans(root):
                roots.append(root)
        lookup.additional_roots = blobs.additional_roots = tuple(roots)

    @property
    def runtime_root(self) -> str:
        """Where sockets and other files of running containers are; made (0700) where it is missing."""
        if not self._runtime_root:
            configured = self.globals.runroot or self.config.runroot
            self._runtime_root = runtime_directory(os.environ, self.uid, configured, self.paths.root)
        return self._runtime_root

    @property
    def id_map(self) -> IdMap:
        """The map of this user's namespace; the identity for one who rules a namespace already."""
        if self._id_map is None:
            if userns.needs_user_namespace():
                from rootless.idmap import host_id_map

                self._id_map = host_id_map(os.getuid(), os.getgid())
            else:
                from rootless.idmap import IdMap, read_map

                self._id_map = IdMap(uids=read_map("uid"), gids=read_map("gid"))
        return self._id_map

    def announce_single_id(self) -> None:
        """Say that no subordinate ids are there, and how to get some: one line, once per command."""
        if self.single_id_told or not self.id_map.single:
            return
        self.single_id_told = True
        from rootless.idmap import subid_advice, user_name

        name = user_name(self.uid)
        self.warn(
            f"{name} has no subordinate ids: a container has one user, which is you, and all its files are yours;"
            f" {subid_advice(name)}"
        )

    @property
    def uid_count(self) -> int:
        """How many uids the engine's namespace maps, from 0 on."""
        return max(r.inside + r.count for r in self.id_map.uids)

    @property
    def gid_count(self) -> int:
        """How many gids the engine's namespace maps, from 0 on."""
        return max(r.inside + r.count for r in self.id_map.gids)

    @property
    def storage_driver(self) -> str:
        """ "fuse-overlayfs" | "overlay"."""
        return str(self.globals.storage_driver or self.config.storage_driver)

    @property
    def registries(self) -> RegistriesConf:
        """registries.conf: what short names mean, mirrors and the like.  Read when first asked for, through a cache."""
        if self._registries is None:
            from storage import registries_conf

            directory = config_.cache_directory(os.environ)
            name = config_.cache_name("registries", os.environ, self.uid)
            self._registries = registries_conf.load(os.environ, directory and f"{directory}/{name}")
        return self._registries

    def _heal_network(self) -> None:
        """Give running containers their networks back where the network process was killed."""
        directory = f"{self.runtime_root}/{userns.NETWORK_DIRECTORY}"
        if not os.path.exists(f"{directory}/ctl"):
            return  # there never was one, or it ended when nobody needed it
        living = userns.open_supervisor(directory)
        if living is not None:
            os.close(living)
            return
        from pyctl.engine import network_process

        network_process.heal(self)

    def _short_names(self, text: str) -> Sequence[Reference]:
        from storage.registries_conf import local_candidates

        return local_candidates(self.registries, text)

    def request_facts(self) -> RequestFacts:
        """What a request for a container depends on besides its options."""
        from pyctl.engine.programs import resource_limits
        from pyctl.engine.request_facts import RequestFacts

        return RequestFacts(
            uid=self.uid,
            gid=os.getgid(),
            cwd=_working_directory(),
            environ=dict(os.environ),
            uid_count=self.uid_count,
            gid_count=self.gid_count,
            rlimits=resource_limits(),
            oom_score_adj=int(read_file("/proc/self/oom_score_adj")),
            subuid_ranges=tuple((r.outside, r.count) for r in self.id_map.uids[1:]),
            subgid_ranges=tuple((r.outside, r.count) for r in self.id_map.gids[1:]),
            host_name=os.uname().nodename,
            selinux=os.path.isdir("/sys/fs/selinux"),
            apparmor=os.path.isdir("/sys/kernel/security/apparmor"),
            defaults=self.config,
        )

    @property
    def cache_dir(self) -> str:
        """Derived data that can be made again."""
        return config_.cache_directory(os.environ) or f"{self.paths.root}/cache"

    def warn(self, sentence: str) -> None:
        """A line on stderr that is not an error; --log-level=error and above hides it."""
        if self.globals.log_level not in ("error", "fatal", "panic"):
            sys.stderr.write(f"pyctl: warning: {sentence}\n")

    def _remove_later(self, record: ContainerRecord) -> None:
        null = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1, 2)]
        argv = [*self.own_command(), "container", "cleanup", record.id]
        os.posix_spawn(argv[0], argv, child_environment(), file_actions=null, setsid=True)

    def own_command(self) -> list[str]:
        """How another process of the same engine is called: interpreter, program, this one's global options."""
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        program = f"import sys; sys.path.insert(0, {here!r}); from pyctl.__main__ import main; main()"
        argv = [sys.executable, "-c", program, "--root", self.paths.root, "--runroot", self.runtime_root]
        for option in ("log_level", "storage_driver", "runtime"):
            value = self.globals.get(option)
            if value and self.globals.given(option):
                argv.append(f"--{option.replace('_', '-')}={value}")
        return argv


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise Error(
            f"the current directory cannot be read: {error.strerror}", hint="change to one that exists"
        ) from error
