"""What is made once for a container and outlasts its restarts: network, root, cgroup, files, and who it runs as.

Weight: light modules only.  All of it in the supervisor's private namespaces; `release()` takes it down in order.
"""

from __future__ import annotations

import os

from rootless import libc, netns, ops, passwd
from rootless.errors import LaunchError, os_error_text
from rootless.fds import write_file
from rootless.idmap import ContainerIds, mapped_size, read_map
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.bridge_link import BridgeLink
    from rootless.cgroup import ContainerCgroup
    from rootless.loop import Loop
    from rootless.pasta import PastaConnection
    from rootless.plan import LaunchPlan
    from rootless.publishing import Publishing

FORWARDER = "the port forwarder"
_ENOTCONN = 107  # of a FUSE mount that no program serves


class Surroundings:
    """One container's; see the module's docstring.  `trace` prints an operation when debugging."""

    def __init__(
        self,
        plan: LaunchPlan,
        *,
        outer_proc: int,
        supervisor_pid: int,
        own_pid_namespace: bool,
        trace: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.config: dict[str, Any] = loads(plan.config)
        self.process: dict[str, Any] = {}  # config.json's `process` with its user, the model of every exec
        self.owner = (0, 0)  # the container's user, as this process's namespace counts
        self.ids = ContainerIds(self.config["linux"])
        self.cgroup: ContainerCgroup | None = None
        self.connection: netns.Connection | PastaConnection = netns.Connection()
        self.bridge: BridgeLink | None = None
        self.fuse_pid = 0
        self.root_is_shared = False  # mounted in another namespace too
        self.namespace_fds: list[int] = []
        self._publishing: Publishing | None = None
        self._outer_proc = outer_proc
        self._supervisor_pid = supervisor_pid
        self._own_pid_namespace = own_pid_namespace
        self._trace = trace

    def prepare(self, loop: Loop, forwarding: Callable[[int], None]) -> None:
        """Make everything.  Raises Error; `release` then takes down what was made.

        forwarding: called with the port forwarder's pid, should there ever be one.
        """
        plan = self.plan
        self._write_files()
        self._make_network()
        for operation in ops.rootfs_ops(plan.rootfs):
            self._trace(operation.describe())
            self.fuse_pid = operation.execute() or self.fuse_pid
        scope = self._begin_cgroup()  # the helpers are there: systemd moves them along with this process
        self._prepare_root()
        if plan.shm_of:
            self._share_memory()
        self._open_namespaces()
        if scope is not None:
            self.cgroup = scope()
        self._finish_network(loop, forwarding)

    @property
    def helpers(self) -> dict[int, str]:
        """Processes that the container cannot do without: pid → name."""
        found = {self.connection.pid: self.connection.name, self.fuse_pid: "fuse-overlayfs"}
        if self._publishing is not None:
            found[self._publishing.pid] = FORWARDER
        found.pop(0, None)
        return found

    def release(self) -> None:
        """Everything but the cgroup goes (the runtime may still need that for its own clean-up)."""
        self.connection.close()
        if self.bridge is not None:
            self.bridge.close()
        if self._publishing is not None:
            self._publishing.close()
        plan = self.plan
        if plan.rootfs.driver != "directory":
            # By umount, not by this process's end: fuse-overlayfs must still be there to take what the
            # kernel's write-back cache holds.  What is deleted next need not be written first.
            if self.root_is_shared:
                self._sync_root()
            try:
                libc.umount(plan.rootfs.merged, libc.MNT_DETACH if plan.remove else 0)
            except OSError:
                self._lazy_umount()

    def _sync_root(self) -> None:
        root = os.open(self.plan.rootfs.merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libc.syncfs(root)
        finally:
            os.close(root)

    def _lazy_umount(self) -> None:
        try:
            libc.umount(self.plan.rootfs.merged, libc.MNT_DETACH)
        except OSError:
            return  # it was never mounted

    def _begin_cgroup(self) -> Callable[[], ContainerCgroup | None] | None:
        if self.plan.cgroup.mode == "disabled":
            self._unify_cgroup_mount()
            return None
        from rootless import cgroup  # only where cgroups are ours to manage

        guardian_pid = 0 if self._own_pid_namespace else os.getppid()
        return cgroup.begin(self.plan.cgroup, self._supervisor_pid, self._outer_proc, guardian_pid=guardian_pid)

    def _unify_cgroup_mount(self) -> None:
        """A pure cgroup v2 mount for the runtime: crun and runc refuse a hybrid one, even if told to leave it alone."""
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            return
        try:
            libc.unshare(libc.CLONE_NEWCGROUP)
            libc.mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
        except OSError as error:
            self._trace(f"no cgroup2 mount of our own: {error.strerror}")

    def _write_files(self) -> None:
        """/etc/hosts and its like, which config.json mounts: in memory, because they are made anew at each start."""
        directory = f"{self.plan.runtime_dir}/files"
        os.makedirs(directory, 0o711, exist_ok=True)
        for name, content in self.plan.files.items():
            write_file(f"{directory}/{name}", content.encode("utf-8", "surrogateescape"), 0o644)

    def _make_network(self) -> None:
        network = self.plan.network
        if network.kind == "join":
            netns.join(self._outer_proc, network)
        elif network.kind != "host":
            if network.ports:
                from rootless.publishing import Publishing  # only with published ports

                # Here, because its sockets are to be the host's.
                self._publishing = Publishing(network)
            if network.kind == "pasta":
                from rootless.pasta import PastaConnection  # few containers' connection

                self.connection = PastaConnection()
            if network.helper:
                self._trace(f"{network.helper} {' '.join(network.helper_args)}")
                self.connection.start(network, self.plan.runtime_dir)
            netns.make_private()
            if network.kind == "pasta" or network.bridge is not None or "--enable-ipv6" in network.helper_args:
                netns.skip_duplicate_detection()
            if network.bridge is not None:
                from rootless.bridge_link import BridgeLink  # only with user-defined networks

                self.bridge = BridgeLink(network.bridge, self.plan.runtime_dir)
                self.bridge.ask()
            if network.helper:
                self.connection.release()
            netns.allow_ping(network.ping_group_range, mapped_size(read_map("gid")) - 1)
            if "uidMappings" in self.config["linux"]:
                netns.allow_low_ports()
            netns.write_sysctls(network.sysctls)
            if self._publishing is not None:
                self._publishing.enter()

    def _finish_network(self, loop: Loop, forwarding: Callable[[int], None]) -> None:
        if self.bridge is not None:
            self.bridge.wait(loop)
        if self.plan.network.helper:
            self.connection.wait_ready()
            self.connection.drain(loop)
        if self._publishing is not None:
            self._publishing.connect(self.connection.api_socket, loop, forwarding)

    def _prepare_root(self) -> None:
        """The user, the working directory, new volumes: what needs the mounted root."""
        plan = self.plan
        try:
            root = os.open(plan.rootfs.merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == _ENOTCONN and self.fuse_pid:
                raise ops.MountFuseOverlay(plan=plan.rootfs).failure() from error
            raise LaunchError("mount", os_error_text(error, plan.rootfs.merged), errno=error.errno or 0) from error
        try:
            user = passwd.look_up(root, plan.user, plan.group_add)
            if plan.passwd_home and not user.name:
                user = passwd.add_missing(
                    root, user, plan.passwd_name, plan.passwd_home, plan.passwd_entry, plan.group_entry
                )
            self._check_workdir(root)
            for path in plan.make_dirs:
                try:
                    ops.make_directory_in_root(root, path)
                except OSError as error:
                    raise LaunchError(
                        "mount", os_error_text(error, f"cannot make {path} in the container"), errno=error.errno or 0
                    ) from error
        finally:
            os.close(root)
        self.owner = uid, gid = self.owner_of(user)
        for copy in plan.copy_ups:
            from rootless.filling import CopyTree  # few starts are the first with their volume

            operation = CopyTree(
                root=plan.rootfs.merged,
                source=copy.source,
                target=copy.target,
                uid=uid,
                gid=gid,
                content=copy.content,
            )
            self._trace(operation.describe())
            operation.execute()
        for path in plan.chowns:
            from rootless import ownership  # few volumes change hands

            self._trace(f"chown -R {uid}:{gid} {path}")
            ownership.chown_tree(path, uid, gid)
        process = self.config["process"]
        self.apply_user(process, user, plan.set_home)
        self.process = process

    def _check_workdir(self, root: int) -> None:
        path = self.plan.require_dir
        if not path:
            return
        try:
            os.close(libc.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
        except OSError as error:
            raise LaunchError(
                "workdir", os_error_text(error, f"--workdir {path}"), exit_code=126, errno=error.errno or 0
            ) from error

    def owner_of(self, user: passwd.ContainerUser) -> tuple[int, int]:
        """What a user of the container is called out here: (uid, gid).  Raises LaunchError for one it cannot have."""
        for gid in user.asked_groups:
            self.ids.need("gid", gid)
        return self.ids.need("uid", user.uid, user.name), self.ids.need("gid", user.gid)

    def _share_memory(self) -> None:
        """/dev/shm goes with the IPC namespace."""
        from rootless import sharing  # only with --ipc=container:

        try:
            fd = os.open(self.plan.shm_of.removeprefix("/proc/"), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._outer_proc)
        except OSError as error:
            raise LaunchError("namespace", os_error_text(error, self.plan.shm_of), errno=error.errno or 0) from error
        try:
            sharing.mount_from(fd, "/dev/shm", "/dev/shm")
        finally:
            os.close(fd)

    def configured_capabilities(self) -> dict[str, Any]:
        """The capability sets of config.json, as they were before a user was applied."""
        held: dict[str, Any] = loads(self.plan.config)["process"].get("capabilities", {})
        return held

    def exec_privileges(self) -> dict[str, Any]:
        """All capabilities, for `exec --privileged`."""
        from rootless.capabilities import bounding_set

        held = list(bounding_set())
        return dict.fromkeys(("bounding", "effective", "permitted"), held)

    def apply_user(self, process: dict[str, Any], user: passwd.ContainerUser, set_home: bool) -> None:
        """Write a looked-up user into a `process` object (config.json, exec)."""
        held = process.get("user") or {}
        held.update({"uid": user.uid, "gid": user.gid})
        # A group that the image puts its user in, but that the container cannot have, is left out.
        own = [g for g in user.groups if self.ids.outside("gid", g) >= 0]
        groups = [*own, *(g for g in held.get("additionalGids", []) if g not in user.groups)]
        if groups:
            held["additionalGids"] = groups
        process["user"] = held
        if set_home:
            env = [e for e in process.get("env", []) if not e.startswith("HOME=")]
            process["env"] = [*env, f"HOME={user.home or '/'}"]
        if user.uid != 0 and "capabilities" in process:
            # execve(2) of a non-root user clears these; a runtime that set them all the same would keep them
            # through the exec as ambient ones.
            kept = process["capabilities"]
            for name in ("effective", "permitted", "ambient", "inheritable"):
                kept[name] = process.get("_ambient", [])

    def _open_namespaces(self) -> None:
        """Namespaces of other containers are named by host paths, which this /proc does not show: pass descriptors."""
        for namespace in self.config["linux"]["namespaces"]:
            path = namespace.get("path", "")
            if not path:
                continue
            try:
                if path.startswith("/proc/"):
                    fd = os.open(path[6:], os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._outer_proc)
                else:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise LaunchError("namespace", os_error_text(error, path), errno=error.errno or 0) from error
            self.namespace_fds.append(fd)
            namespace["path"] = f"/proc/self/fd/{fd}"
