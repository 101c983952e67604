"""The default seccomp profile, as data: which system calls a container may make.

Weight: none; and it is only read where no compiled filter is in the cache, or for a runtime other than crun.

An allow-list with three answers for the rest:
- a call that is not named anywhere does not exist for the container (ENOSYS).  A C library that probes for a
  newer call then takes its older way; EPERM would be taken for a real refusal;
- a call of `REFUSED` exists but is forbidden (EPERM): old, dangerous, or about the whole machine;
- a call of `GATED` comes with a capability and is EPERM without it.

The kernel checks capabilities itself.  The filter's work is to keep code out of reach that has no business in a
container: every reachable system call is attack surface of the shared kernel.

The profile has the format of the containers' seccomp.json, so that a site's file and this one take the same way.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EPERM, EINVAL, ENOSYS, EAFNOSUPPORT = 1, 22, 38, 97

# Allowed to everybody, by purpose.  Names of all architectures: what an architecture lacks is left out there.
# A 32-bit ABI adds variants: …32 (wide ids), …64 (wide offsets), …_time64 (wide seconds).
ALLOWED: dict[str, str] = {
    "open, close and duplicate": """
        open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 pipe pipe2 memfd_create memfd_secret
        name_to_handle_at""",
    "read and write": """
        read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek readahead
        copy_file_range sendfile sendfile64 splice tee ioctl fadvise64 fadvise64_64 arm_fadvise64_64 fallocate
        ftruncate ftruncate64 truncate truncate64 sync syncfs fsync fdatasync sync_file_range sync_file_range2
        arm_sync_file_range flock cachestat""",
    "asynchronous I/O (not io_uring: see REFUSED)": """
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64""",
    "file attributes": """
        stat stat64 fstat fstat64 lstat lstat64 newfstatat fstatat64 statx statfs statfs64 fstatfs fstatfs64
        access faccessat faccessat2 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown
        lchown32 umask utime utimes futimesat utimensat utimensat_time64 file_getattr file_setattr
        getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
        listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat""",
    "directories and names": """
        getdents getdents64 readdir getcwd chdir fchdir mkdir mkdirat rmdir mknod mknodat link linkat symlink
        symlinkat readlink readlinkat rename renameat renameat2 unlink unlinkat""",
    # In a namespace of its own; a container without CAP_SYS_ADMIN gets there by a nested user namespace, as
    # bubblewrap, Chromium and rootless engines do.
    "mounts and namespaces": """
        mount umount umount2 pivot_root mount_setattr open_tree open_tree_attr move_mount fsopen fsconfig fsmount
        fspick statmount listmount unshare setns sethostname setdomainname""",
    "waiting for files": """
        select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl
        epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
        timerfd timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark""",
    "processes and threads": """
        clone clone3 fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid
        set_tid_address set_robust_list get_robust_list rseq prctl arch_prctl set_thread_area get_thread_area
        set_tls get_tls modify_ldt setpgid getpgid getpgrp setsid getsid getcpu membarrier seccomp
        landlock_create_ruleset landlock_add_rule landlock_restrict_self
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules restart_syscall uretprobe uprobe
        pidfd_open pidfd_getfd pidfd_send_signal process_mrelease""",
    # Within the container: the kernel's ptrace access check stands before both, and a filter is checked again
    # after a tracer changed a call (since Linux 4.8).
    "debugging": "ptrace process_vm_readv process_vm_writev",
    "memory": """
        brk mmap mmap2 munmap mremap mprotect madvise mincore msync remap_file_pages mlock mlock2 mlockall munlock
        munlockall pkey_alloc pkey_free pkey_mprotect mseal map_shadow_stack cacheflush
        mbind get_mempolicy set_mempolicy set_mempolicy_home_node""",
    "signals": """
        kill tkill tgkill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack pause signal sigaction sigpending
        sigprocmask sigreturn sigsuspend""",
    "locks between threads": """
        futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue""",
    # adjtimex and clock_adjtime also only read; setting needs CAP_SYS_TIME, which the kernel asks for.
    "time": """
        time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
        clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer times
        timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64""",
    "identity": """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid
        getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32
        capget capset""",
    # socket itself is below.  socketcall is how a 32-bit C library reaches all of them on x86 and s390; its
    # arguments lie in memory, where no filter can look, so a 32-bit program escapes the rules for socket.
    "network": """
        socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt
        send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 socketcall""",
    "messages, semaphores, shared memory": """
        ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
        mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive
        mq_timedreceive_time64""",
    "scheduling and limits": """
        sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
        sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
        sched_rr_get_interval_time64 getpriority setpriority nice ioprio_get ioprio_set getrlimit ugetrlimit
        setrlimit prlimit64 getrusage""",
    # reboot ends a pid namespace, keyctl is what systemd and nested runtimes start with; both stay inside.
    "the system": "uname sysinfo getrandom reboot keyctl riscv_flush_icache riscv_hwprobe",
    "architectures": """
        breakpoint swapcontext s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_guarded_storage
        switch_endian""",
}

# Capability → calls that it brings, as the kernel's own check for them names it.
GATED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("CAP_DAC_READ_SEARCH",), "open_by_handle_at"),  # reaches files outside the root (CVE-2014-3519, "shocker")
    (("CAP_SYS_CHROOT",), "chroot"),
    (("CAP_SYS_PTRACE",), "kcmp process_madvise"),
    (("CAP_SYS_NICE",), "move_pages migrate_pages"),
    (("CAP_SYSLOG",), "syslog"),  # the host's kernel log, where dmesg_restrict is off
    (("CAP_SYS_TIME",), "settimeofday stime clock_settime clock_settime64"),
    (("CAP_SYS_TTY_CONFIG",), "vhangup"),
    (("CAP_SYS_PACCT",), "acct"),
    (("CAP_SYS_RAWIO",), "iopl ioperm"),
    (("CAP_SYS_MODULE",), "init_module finit_module delete_module"),
    (("CAP_SYS_ADMIN",), "fanotify_init quotactl quotactl_fd lookup_dcookie"),
    (("CAP_SYS_ADMIN", "CAP_BPF"), "bpf"),
    (("CAP_SYS_ADMIN", "CAP_PERFMON"), "perf_event_open"),
)

REFUSED: dict[str, str] = {
    "another kernel": "kexec_load kexec_file_load",
    "swap and firmware": "swapon swapoff pciconfig_read pciconfig_write pciconfig_iobase rtas",
    # Lets a process halt a thread of the kernel at a page fault: the standard means to win races there.
    "page faults in user hands": "userfaultfd",
    # Pins pages that a parent and a child share: reads of the parent's later writes (CVE-2020-29374).
    "pages by reference": "vmsplice",
    "virtual 8086 mode": "vm86 vm86old",
    "calls of old, for which newer ones exist": """
        _sysctl sysfs uselib ustat bdflush nfsservctl oldstat oldlstat oldfstat olduname oldolduname sgetmask
        ssetmask query_module create_module get_kernel_syms syscall""",
}

# Deliberately not there: ENOSYS by default, so that programs take their other way.  Named so that a test can
# tell a decision from an oversight.
ABSENT: dict[str, str] = {
    # Does work on behalf of the process beside its own system calls, and has been the largest source of kernel
    # privilege escalations since it exists.
    "io_uring": "io_uring_setup io_uring_enter io_uring_register",
    # Not bound to a namespace in a way that a container could be kept to its own keys.
    "keys": "add_key request_key",
    "never implemented, or only on other systems": """
        afs_syscall break ftime getpmsg gtty idle lock mpx multiplexer prof profil putpmsg security stty tuxcall
        ulimit vserver usr26 usr32 s390_sthyi spu_create spu_run subpage_prot sys_debug_setcontext""",
}

# personality(2) is an argument list: ordinary Linux, 32-bit Linux, both with a 2.6 version number, and the
# question for the present one.  Other bits weaken memory protection (READ_IMPLIES_EXEC, MMAP_PAGE_ZERO …).
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

AF_NETLINK, AF_ALG, AF_VSOCK, AF_BEYOND = 16, 38, 40, 64
NETLINK_AUDIT, NETLINK_BEYOND = 9, 32


def _ranges(allowed: tuple[tuple[int, int], ...], index: int) -> list[dict[str, Any]]:
    """Half-open ranges as comparisons of one argument: aligned blocks, each by one mask of all 64 bits.

    "Not equal 40" would not do: the kernel cuts these arguments to 32 bits, so 0x1_0000_0028 is not equal
    to 40 for a filter and the same as 40 for the call.  With a mask of 64 bits anything beyond fails.
    """
    rows = []
    for first, end in allowed:
        start = first
        while start < end:
            size = start & -start or 1 << (end - 1).bit_length()
            while start + size > end:
                size >>= 1
            rows.append({"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": 2**64 - size, "valueTwo": start})
            start += size
    return rows


def _socket_rules() -> list[dict[str, Any]]:
    """socket(domain, type, protocol): every family except three cases.

    AF_VSOCK talks to the hypervisor past any network namespace: not even --network=none would hold it.
    AF_ALG is the kernel's cryptography, with a record of page cache corruption (CVE-2026-31431).
    NETLINK_AUDIT answers EINVAL without CAP_AUDIT_WRITE: programs take that for a kernel without audit, and
    go on; EPERM makes a login fail.
    """

    def rule(action: str, args: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        return {"names": ["socket"], "action": action, "args": args, **more}

    def equal(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "op": "SCMP_CMP_EQ", "value": value, "valueTwo": 0}

    families = ((0, AF_NETLINK), (AF_NETLINK + 1, AF_ALG), (AF_ALG + 1, AF_VSOCK), (AF_VSOCK + 1, AF_BEYOND))
    protocols = ((0, NETLINK_AUDIT), (NETLINK_AUDIT + 1, NETLINK_BEYOND))
    audit = ["CAP_AUDIT_WRITE"]
    netlink = equal(0, AF_NETLINK)
    rules = [rule("SCMP_ACT_ALLOW", [row]) for row in _ranges(families, 0)]
    rules += [rule("SCMP_ACT_ERRNO", [equal(0, f)], errnoRet=EAFNOSUPPORT) for f in (AF_ALG, AF_VSOCK)]
    rules += [rule("SCMP_ACT_ALLOW", [netlink, p], excludes={"caps": audit}) for p in _ranges(protocols, 2)]
    rules.append(rule("SCMP_ACT_ERRNO", [netlink, equal(2, NETLINK_AUDIT)], errnoRet=EINVAL, excludes={"caps": audit}))
    rules.append(rule("SCMP_ACT_ALLOW", [netlink], includes={"caps": audit}))
    return rules


def default_profile() -> dict[str, Any]:
    """The profile in the format of the containers' seccomp.json, see `rootless.seccomp.resolve`."""
    rules: list[dict[str, Any]] = [
        {"names": [name for names in ALLOWED.values() for name in names.split()], "action": "SCMP_ACT_ALLOW"},
        {
            "names": [name for names in REFUSED.values() for name in names.split()],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": EPERM,
        },
    ]
    for capabilities, names in GATED:
        # One rule per capability: `includes` means "all of these", the gate means "any of these".
        for position, capability in enumerate(capabilities):
            row: dict[str, Any] = {"names": names.split(), "action": "SCMP_ACT_ALLOW"}
            row["includes"] = {"caps": [capability]}
            if position:
                row["excludes"] = {"caps": list(capabilities[:position])}
            rules.append(row)
        refuse: dict[str, Any] = {"names": names.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}
        refuse["excludes"] = {"caps": list(capabilities)}
        rules.append(refuse)
    rules += [
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": value, "valueTwo": 0}],
        }
        for value in PERSONALITIES
    ]
    rules += _socket_rules()
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": ENOSYS, "syscalls": rules}


def gate_capabilities() -> tuple[str, ...]:
    """Every capability that changes the filter."""
    names = {capability for capabilities, _calls in GATED for capability in capabilities} | {"CAP_AUDIT_WRITE"}
    return tuple(sorted(names))
