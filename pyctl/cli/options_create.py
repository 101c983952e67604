"""`run` and `create`: the options that describe a container.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.options_limits import NO_POD, SIZE, logs_and_health, resources
from pyctl.cli.table import (
    BOOL,
    BYTES,
    CSV,
    LIST,
    STRING,
    UINT,
    UINTS,
    Command,
    Option,
    command,
    no,
    opt,
)


def _everyday(attached: bool) -> tuple[Option | str, ...]:
    """What most command lines use; `attached` adds what only `run` has."""
    of_run = (
        opt("detach", "d", BOOL, "Run in the background and print the container's id"),
        opt(
            "attach",
            "a",
            CSV,
            "Attach only these streams: stdin, stdout, stderr (default: all that apply; repeatable)",
            metavar="STREAM",
        ),
        opt("sig-proxy", "", BOOL, "Pass signals that pyctl gets on to the container's process", default=True),
        opt(
            "detach-keys",
            "",
            STRING,
            'Keys that detach from the container and leave it running ("" for none)',
            default="ctrl-p,ctrl-q",
            metavar="KEYS",
        ),
        opt("preserve-fds", "", UINT, "Pass the file descriptors 3 … 3+N-1 into the container", metavar="N"),
        no("preserve-fd", "", UINTS, "use --preserve-fds"),
        no("rmi", "", BOOL),
        opt(
            "passwd",
            "",
            BOOL,
            "Give a user whom the image does not know lines in /etc/passwd and /etc/group",
            default=True,
        ),
    )
    of_create = (
        no("attach", "a", CSV, "nothing is attached before the start: pyctl start --attach"),
        no("init-ctr", "", STRING, NO_POD),
    )
    return (
        "Everyday",
        opt("interactive", "i", BOOL, "Keep stdin open"),
        opt("tty", "t", BOOL, "Give the container a terminal"),
        opt("rm", "", BOOL, "Remove the container, and its anonymous volumes, when it ends"),
        opt("name", "", STRING, "A name for the container (one is made up without)", metavar="NAME"),
        *(of_run if attached else of_create),
        opt(
            "env",
            "e",
            LIST,
            "Set a variable; NAME alone takes the host's value, NAME* all that start so",
            metavar="NAME[=VALUE]",
        ),
        opt("env-file", "", LIST, "Read variables from a file of NAME=VALUE lines", metavar="FILE", complete="file"),
        opt("env-host", "", BOOL, "Take over all of the caller's variables"),
        opt("env-merge", "", LIST, "Make a variable from the image's: PATH=${PATH}:/opt/bin", metavar="NAME=TEXT"),
        opt("unsetenv", "", LIST, "Leave out a variable of the image or of the settings", metavar="NAME"),
        opt("unsetenv-all", "", BOOL, "Leave out all of them"),
        opt("workdir", "w", STRING, "Working directory in the container; it is made when missing", metavar="DIR"),
        opt("user", "u", STRING, "Who the process is, by name or number in the container", metavar="USER[:GROUP]"),
        opt("group-add", "", CSV, "One more group; keep-groups keeps the caller's own", metavar="GROUP"),
        opt(
            "entrypoint",
            "",
            STRING,
            'Run this instead of the image\'s entry point; a JSON list for several words, "" for none',
            metavar="COMMAND",
        ),
        opt("hostname", "h", STRING, "The container's host name", metavar="NAME"),
        opt("label", "l", LIST, "Attach a label, for filters and tools", metavar="KEY=VALUE"),
        opt("label-file", "", LIST, "Read labels from a file of KEY=VALUE lines", metavar="FILE", complete="file"),
        opt("replace", "", BOOL, "Remove a container that has this --name already"),
        opt("annotation", "", LIST, "Attach an annotation that the OCI runtime sees", metavar="KEY=VALUE"),
        opt(
            "cidfile",
            "",
            STRING,
            "Write the container's id to a file, which must not exist",
            metavar="FILE",
            complete="file",
        ),
        opt(
            "pidfile",
            "",
            STRING,
            "Write the host's pid of the container's process to a file",
            metavar="FILE",
            complete="file",
        ),
        opt("init", "", BOOL, "Run a small init as PID 1 that reaps zombies and passes signals on"),
        opt("init-path", "", STRING, "Which init program --init uses", metavar="PATH", complete="file"),
        opt("timeout", "", UINT, "Kill the container after so many seconds (0: never)", metavar="SECONDS"),
        opt(
            "stop-signal",
            "",
            STRING,
            "Signal that asks the process to stop (default: the image's, or TERM)",
            metavar="SIGNAL",
            complete="signal",
        ),
        opt("stop-timeout", "", UINT, "Seconds from the stop signal to KILL", default=10, metavar="SECONDS"),
        opt(
            "restart",
            "",
            STRING,
            "When to start again after an exit: no, on-failure[:N], always, unless-stopped",
            metavar="POLICY",
        ),
        opt("tz", "", STRING, "Time zone of the container: a name as Europe/Paris, or local", metavar="ZONE"),
        opt("umask", "", STRING, "File mode creation mask of the process", default="0022", metavar="MASK"),
    )


def _image() -> tuple[Option | str, ...]:
    return (
        "Image",
        opt(
            "pull",
            "",
            STRING,
            "When to fetch the image; newer: if the registry has another one (default: missing)",
            metavar="POLICY",
            choices=("always", "missing", "never", "newer"),
        ),
        opt("platform", "", STRING, "Choose the image for another system", metavar="OS/ARCH[/VARIANT]"),
        opt(
            "rootfs",
            "",
            BOOL,
            "The first argument is a directory to use as the root, not an image (DIR:O keeps it unchanged)",
        ),
        opt("arch", "", STRING, "Choose the image for another architecture", metavar="ARCH"),
        opt("os", "", STRING, "Choose the image for another operating system", metavar="OS"),
        opt("variant", "", STRING, "Choose the image for another variant of the architecture", metavar="VARIANT"),
        opt("quiet", "q", BOOL, "Tell nothing of fetching the image"),
        opt("tls-verify", "", BOOL, "Insist on https and a valid certificate when fetching", default=True),
        opt("authfile", "", STRING, "File with registry logins", metavar="FILE", complete="file"),
        opt("retry", "", UINT, "So many more attempts when fetching fails", default=3, metavar="N"),
        opt("retry-delay", "", STRING, "Time between those attempts", metavar="TIME"),
        no("decryption-key", "", LIST, "encrypted images are not built yet"),
        opt(
            "disable-content-trust",
            "",
            BOOL,
            "",
            default=True,
            choices=("true",),
            refused="docker's content trust does not exist here",
        ),
        opt(
            "image-volume",
            "",
            STRING,
            "What becomes of the image's volumes",
            default="anonymous",
            metavar="MODE",
            choices=("anonymous", "bind", "tmpfs", "ignore"),
        ),
    )


def _files() -> tuple[Option | str, ...]:
    return (
        "Files and devices",
        opt(
            "volume",
            "v",
            LIST,
            "Put a host directory or a volume into the container; options as ro, z, rshared",
            metavar="[SOURCE:]TARGET[:OPTIONS]",
            complete="mount",
        ),
        opt("mount", "", LIST, "The same in words: type=bind|tmpfs|volume,src=…,dst=…,ro", metavar="KEY=VALUE,…"),
        opt("tmpfs", "", LIST, "A file system in memory: /run:size=64m,mode=1777", metavar="TARGET[:OPTIONS]"),
        opt("read-only", "", BOOL, "Make the container's root read-only"),
        opt(
            "read-only-tmpfs",
            "",
            BOOL,
            "With --read-only, keep /run, /tmp and /var/tmp writable in memory",
            default=True,
        ),
        opt("shm-size", "", BYTES, "Size of /dev/shm", default=65536 * 1000, metavar=SIZE),
        opt("device", "", LIST, "Put a host device into the container", metavar="HOST[:TARGET[:rwm]]", complete="file"),
        opt(
            "volumes-from",
            "",
            LIST,
            "Take over the volumes and directories of another container, with its or these options: ro, rw, z",
            metavar="CONTAINER[:OPTIONS]",
            complete="container",
        ),
        no("chrootdirs", "", LIST),
        no("gpus", "", CSV, "use --device for the nodes in /dev; CDI is not built yet"),
        no("secret", "", LIST, "there are no secrets yet"),
        no("shm-size-systemd", "", BYTES, "there is no systemd mode yet"),
        no("device-cgroup-rule", "", CSV, "a user without root has no device cgroup"),
    )


def _network() -> tuple[Option | str, ...]:
    return (
        "Network",
        opt(
            "network",
            "",
            LIST,
            "slirp4netns[:opts] (the default), pasta[:opts], none, host, container:NAME, ns:PATH, NET[:ip=…,alias=…]",
            metavar="MODE",
            also=("net",),
            complete="network",
        ),
        opt(
            "publish",
            "p",
            CSV,
            "Make a port of the container reachable: 8080:80, 127.0.0.1:8080:80, 53:53/udp",
            metavar="[[IP:]HOST:]PORT[/PROTO]",
        ),
        opt("publish-all", "P", BOOL, "Publish every exposed port on a free port of the host"),
        opt("expose", "", CSV, "Declare a port that the container listens on, for -P", metavar="PORT[/PROTO]"),
        opt("dns", "", CSV, "A name server, or none to leave the image's resolv.conf", metavar="IP"),
        opt("dns-search", "", CSV, "A search domain, or . for none", metavar="DOMAIN"),
        opt("dns-option", "", CSV, "A resolver option, as in resolv.conf(5)", metavar="OPTION", also=("dns-opt",)),
        opt("add-host", "", CSV, "A line in /etc/hosts; host-gateway stands for the host", metavar="NAME:IP"),
        opt("no-hosts", "", BOOL, "Leave the image's /etc/hosts as it is"),
        opt("no-hostname", "", BOOL, "Leave the image's /etc/hostname as it is"),
        opt("hosts-file", "", STRING, "Base for /etc/hosts: a file, image, or none", metavar="FILE", complete="file"),
        opt("ip", "", STRING, "A fixed address on the one --network", metavar="IP"),
        opt("ip6", "", STRING, "A fixed IPv6 address on the one --network", metavar="IP"),
        opt("mac-address", "", STRING, "A fixed hardware address on the one --network", metavar="MAC"),
        opt("network-alias", "", CSV, "A further name of the container on its networks", metavar="NAME"),
        opt("http-proxy", "", BOOL, "Pass the proxy variables of the caller on", default=True),
    )


def _isolation() -> tuple[Option | str, ...]:
    return (
        "Isolation",
        opt(
            "privileged",
            "",
            BOOL,
            "Give every capability that the user namespace has, and every device that the caller may open",
        ),
        opt("cap-add", "", CSV, "Add a capability, or ALL", metavar="CAP", complete="capability"),
        opt("cap-drop", "", CSV, "Take a capability away, or ALL", metavar="CAP", complete="capability"),
        opt(
            "security-opt",
            "",
            LIST,
            "no-new-privileges, seccomp=FILE|unconfined, label=…, apparmor=…, mask=PATH, unmask=PATH|ALL",
            metavar="OPTION",
        ),
        opt("userns", "", STRING, "User namespace: host, keep-id[:uid=N,gid=N], auto, nomap", metavar="MODE"),
        opt("uidmap", "", CSV, "Map user ids by hand", metavar="INSIDE:OUTSIDE:SIZE"),
        opt("gidmap", "", CSV, "Map group ids by hand", metavar="INSIDE:OUTSIDE:SIZE"),
        opt("pid", "", STRING, "Process ids: private, host, container:NAME, ns:PATH", metavar="MODE"),
        opt(
            "ipc",
            "",
            STRING,
            "System V IPC and /dev/shm: private, shareable, none, host, container:NAME, ns:PATH",
            metavar="MODE",
        ),
        opt("uts", "", STRING, "Host name: private, host, ns:PATH", metavar="MODE"),
        opt("cgroupns", "", STRING, "View of the cgroups: private, host, container:NAME, ns:PATH", metavar="MODE"),
        opt("sysctl", "", CSV, "Set a kernel parameter of the container's namespaces", metavar="NAME=VALUE"),
        no("subuidname", "", STRING, "the ranges of another name cannot be mapped"),
        no("subgidname", "", STRING, "the ranges of another name cannot be mapped"),
        opt(
            "personality",
            "",
            STRING,
            "What uname(2) tells the container, as LINUX32 (personality(2))",
            metavar="DOMAIN",
            choices=("LINUX", "LINUX32"),
        ),
        opt(
            "seccomp-policy",
            "",
            STRING,
            "",
            default="default",
            choices=("default",),
            refused="an image cannot choose its own profile here",
        ),
        opt("systemd", "", STRING, "", default="false", choices=("false",), refused="there is no systemd mode yet"),
        opt(
            "group-entry",
            "",
            STRING,
            "The line that the user's group gets in /etc/group; $GROUPNAME, $GID and $USERLIST are filled in",
            metavar="LINE",
        ),
        opt(
            "passwd-entry",
            "",
            STRING,
            "The line that the user gets in /etc/passwd; $USERNAME, $UID, $GID, $NAME and $HOME are filled in",
            metavar="LINE",
        ),
        no("hostuser", "", CSV),
    )


def _options(attached: bool) -> tuple[Option | str, ...]:
    return (*_everyday(attached), *_image(), *_files(), *_network(), *_isolation(), *resources(), *logs_and_health())


def cmd_run() -> Command:
    return command(
        "run",
        "IMAGE [COMMAND [ARG...]]",
        "Make a container from an image and run a command in it",
        "pyctl.cli.verb_run:run",
        *_options(attached=True),
        description=(
            "Fetches the image if it is not stored yet, makes a container with a writable layer of its own, and runs"
            " the image's command or the one that is given. Options stand before IMAGE; what follows it belongs to the"
            " container. Root in the container is you on this machine; its other users are ids from your subordinate"
            " range, so it can do to the machine what you can do, and no more.\n\n"
            "Exit status: the command's own; 125 when pyctl failed, 126 when the command cannot be invoked, 127 when it"
            " does not exist, 128+N when signal N ended it."
        ),
        examples=(
            ("pyctl run --rm -it docker.io/library/alpine", "a shell in a throw-away container"),
            ("pyctl run -d --name web -p 8080:80 docker.io/library/nginx", "a server in the background, on port 8080"),
            (
                "pyctl run --rm -v .:/work -w /work --userns=keep-id gcc make",
                "a compiler on the files here, as yourself",
            ),
            ("pyctl run --rm --memory 512m --cpus 2 IMAGE", "at most 512 MiB of memory and two processors"),
        ),
        args=(1, -1),
        interspersed=False,
        complete="image",
        aliases=("container run",),
    )


def cmd_create() -> Command:
    return command(
        "create",
        "IMAGE [COMMAND [ARG...]]",
        "Make a container and leave it stopped",
        "pyctl.cli.verb_run:create",
        *_options(attached=False),
        description=(
            "Does all that `run` does except starting, and prints the container's id. Start it with `pyctl start`."
            " Ports, names and volumes are claimed now, so that mistakes show here."
        ),
        examples=(
            ("pyctl create --name db -v data:/var/lib/postgresql/data postgres", "make it"),
            ("pyctl start db", "run it, now or tomorrow"),
        ),
        args=(1, -1),
        interspersed=False,
        complete="image",
        aliases=("container create",),
    )
