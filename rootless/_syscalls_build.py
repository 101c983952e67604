"""Builds `rootless._syscalls`: the kernel interfaces that Python's os module lacks.

API mode, compiled out of line and within CPython's limited API (abi3): one extension serves every
Python from 3.11 on, and importing it costs under a millisecond (`cdef` at run time costs 30 to 40).
"""

from cffi import FFI

ffi = FFI()

ffi.cdef("""
int pyctl_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int pyctl_umount2(const char *target, int flags);
int pyctl_unshare(int flags);
int pyctl_setns(int fd, int nstype);
int pyctl_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int pyctl_pivot_root(const char *new_root, const char *put_old);
int pyctl_openat2(int dirfd, const char *path, unsigned long flags, unsigned long mode, unsigned long resolve);
int pyctl_open_tree(int dirfd, const char *path, unsigned int flags);
int pyctl_move_mount(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned int flags);
int pyctl_mount_setattr(int dirfd, const char *path, unsigned int flags, unsigned long set, unsigned long clr,
                        unsigned long propagation, int userns_fd);
int pyctl_fsopen(const char *type, unsigned int flags);
int pyctl_fsconfig(int fd, unsigned int cmd, const char *key, const char *value, int aux);
int pyctl_fsmount(int fd, unsigned int flags, unsigned int attrs);
int pyctl_signalfd(const int *signals, int count);
int pyctl_block_signals(const int *signals, int count);
int pyctl_unblock_all(void);
long pyctl_syncfs(int fd);
int pyctl_close_range(unsigned int first, unsigned int last, unsigned int flags);
long pyctl_splice(int from, int to, size_t length, unsigned int flags);
int pyctl_capset_inheritable_clear(void);
int pyctl_sethostname(const char *name, int length);
int pyctl_loopback_up(void);
unsigned long long pyctl_effective_capabilities(void);
int pyctl_shared_keyring(const char *name);
""")

ffi.set_source(
    "rootless._syscalls",
    r"""
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers that older headers lack; from 424 on they are the same on every architecture. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

struct pyctl_open_how { uint64_t flags, mode, resolve; };
struct pyctl_mount_attr { uint64_t attr_set, attr_clr, propagation, userns_fd; };

static int pyctl_mount(const char *s, const char *t, const char *ty, unsigned long f, const char *d) {
    return mount(s, t, ty, f, d);
}
static int pyctl_umount2(const char *t, int f) { return umount2(t, f); }
static int pyctl_unshare(int f) { return unshare(f); }
static int pyctl_setns(int fd, int t) { return setns(fd, t); }
static int pyctl_prctl(int o, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return prctl(o, a, b, c, d);
}
static int pyctl_pivot_root(const char *n, const char *p) { return (int)syscall(SYS_pivot_root, n, p); }
static int pyctl_openat2(int d, const char *p, unsigned long f, unsigned long m, unsigned long r) {
    struct pyctl_open_how how = { f, m, r };
    return (int)syscall(SYS_openat2, d, p, &how, sizeof how);
}
static int pyctl_open_tree(int d, const char *p, unsigned int f) { return (int)syscall(SYS_open_tree, d, p, f); }
static int pyctl_move_mount(int fd, const char *f, int td, const char *t, unsigned int fl) {
    return (int)syscall(SYS_move_mount, fd, f, td, t, fl);
}
static int pyctl_mount_setattr(int d, const char *p, unsigned int f, unsigned long set, unsigned long clr,
                               unsigned long propagation, int userns_fd) {
    struct pyctl_mount_attr a = { set, clr, propagation, userns_fd < 0 ? 0 : (uint64_t)userns_fd };
    return (int)syscall(SYS_mount_setattr, d, p, f, &a, sizeof a);
}
static int pyctl_fsopen(const char *t, unsigned int f) { return (int)syscall(SYS_fsopen, t, f); }
static int pyctl_fsconfig(int fd, unsigned int c, const char *k, const char *v, int aux) {
    return (int)syscall(SYS_fsconfig, fd, c, k, v, aux);
}
static int pyctl_fsmount(int fd, unsigned int f, unsigned int a) { return (int)syscall(SYS_fsmount, fd, f, a); }
static void pyctl_fill(sigset_t *set, const int *signals, int count) {
    sigemptyset(set);
    for (int i = 0; i < count; i++) sigaddset(set, signals[i]);
}
static int pyctl_signalfd(const int *signals, int count) {
    sigset_t set;
    pyctl_fill(&set, signals, count);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
static int pyctl_block_signals(const int *signals, int count) {
    sigset_t set;
    pyctl_fill(&set, signals, count);
    return sigprocmask(SIG_BLOCK, &set, NULL);
}
static int pyctl_unblock_all(void) {
    sigset_t set;
    sigemptyset(&set);
    return sigprocmask(SIG_SETMASK, &set, NULL);
}
static long pyctl_syncfs(int fd) { return syncfs(fd); }
static int pyctl_close_range(unsigned int a, unsigned int b, unsigned int f) {
    return (int)syscall(SYS_close_range, a, b, f);
}
static long pyctl_splice(int a, int b, size_t n, unsigned int f) { return splice(a, NULL, b, NULL, n, f); }
static int pyctl_cap_header(struct __user_cap_header_struct *h, struct __user_cap_data_struct *d) {
    h->version = _LINUX_CAPABILITY_VERSION_3;
    h->pid = 0;
    memset(d, 0, 2 * sizeof *d);
    return (int)syscall(SYS_capget, h, d);
}
static int pyctl_capset_inheritable_clear(void) {
    struct __user_cap_header_struct h;
    struct __user_cap_data_struct d[2];
    if (pyctl_cap_header(&h, d) < 0) return -1;
    d[0].inheritable = d[1].inheritable = 0;
    return (int)syscall(SYS_capset, &h, d);
}
static unsigned long long pyctl_effective_capabilities(void) {
    struct __user_cap_header_struct h;
    struct __user_cap_data_struct d[2];
    if (pyctl_cap_header(&h, d) < 0) return 0;
    return (unsigned long long)d[1].effective << 32 | d[0].effective;
}
static int pyctl_sethostname(const char *n, int l) { return sethostname(n, (size_t)l); }
static int pyctl_shared_keyring(const char *n) {
    long id = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, n);
    if (id < 0) return -1;
    /* A new one is kept for later; who has it may look, its owner also find it by name, and nobody may change it. */
    syscall(SYS_keyctl, KEYCTL_LINK, id, KEY_SPEC_USER_KEYRING);
    syscall(SYS_keyctl, KEYCTL_SETPERM, id, 0x0b0b0000UL);
    return 0;
}
static int pyctl_loopback_up(void) {
    struct ifreq request;
    int saved, result, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "lo");
    result = ioctl(fd, SIOCGIFFLAGS, &request);
    if (result == 0) {
        request.ifr_flags |= IFF_UP;
        result = ioctl(fd, SIOCSIFFLAGS, &request);
    }
    saved = errno;
    close(fd);
    errno = saved;
    return result;
}
""",
    py_limited_api=True,
    extra_compile_args=["-O2", "-Wall"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
