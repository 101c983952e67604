"""The keys of Quadlet's sections: how a value is read, and the option of pyctl's that it becomes.

Weight: `rootless.values`.  The keys are those of Podman 5.4 (podman-systemd.unit(5)).  Whether an option is built is
not written here: what a row becomes is tried with the option table of the command (`pyctl.units.check`), so a row
works from the day on which its option does.
"""

from __future__ import annotations

from rootless.values import Value

# --- how values are read -----------------------------------------------------------------------
TEXT = "text"  # the last one counts
FLAG = "flag"  # yes or no; the last one counts
TEXTS = "texts"  # each one is one value
WORDS = "words"  # each one is words, each of them a value
PAIRS = "pairs"  # the same, of KEY=VALUE
ARGS = "args"  # words that go to the command as they are
GLOBAL = "global"  # each one is a value of an option of pyctl itself
FILES = "files"  # words that are paths, relative to the source's folder
OWN = "own"  # `pyctl.units.convert` has a function for it


class Row(Value):
    """One key.

    option: "--cap-add"; prefix: what stands before the value: "mask=" for --security-opt.
    refused: why this key is not available.
    """

    key: str
    kind: str
    option: str = ""
    prefix: str = ""
    refused: str = ""


class Kind(Value):
    """One kind of source.

    command: the command of pyctl's that a service of it runs; suffix: what its service's name ends with.
    """

    name: str
    command: str
    suffix: str
    rows: dict[str, Row]


def _rows(*rows: Row) -> dict[str, Row]:
    return {row.key: row for row in rows}


def _row(key: str, kind: str, option: str = "", prefix: str = "", refused: str = "") -> Row:
    return Row(key=key, kind=kind, option=option, prefix=prefix, refused=refused)


_EVERY = (
    _row("ContainersConfModule", GLOBAL, "--module"),
    _row("GlobalArgs", ARGS),
    _row("PodmanArgs", ARGS),
    _row("ServiceName", OWN),
)
_NAME_SERVERS = (
    _row("DNS", TEXTS, "--dns"),
    _row("DNSOption", TEXTS, "--dns-option"),
    _row("DNSSearch", TEXTS, "--dns-search"),
)
_USER_IDS = (
    _row("UIDMap", WORDS, "--uidmap"),
    _row("GIDMap", WORDS, "--gidmap"),
    _row("SubUIDMap", TEXT, "--subuidname"),
    _row("SubGIDMap", TEXT, "--subgidname"),
    _row("UserNS", TEXT, "--userns"),
    *(
        _row(key, TEXT, refused="use UserNS=, which took its place")
        for key in ("RemapUsers", "RemapUid", "RemapGid", "RemapUidSize")
    ),
)
_PLATFORM = (
    _row("Arch", TEXT, "--arch"),
    _row("AuthFile", TEXT, "--authfile"),
    _row("TLSVerify", FLAG, "--tls-verify"),
    _row("Variant", TEXT, "--variant"),
)
_HEALTH = tuple(
    _row("Health" + key, TEXT, "--health-" + option)
    for key, option in (
        ("Cmd", "cmd"),
        ("Interval", "interval"),
        ("LogDestination", "log-destination"),
        ("MaxLogCount", "max-log-count"),
        ("MaxLogSize", "max-log-size"),
        ("OnFailure", "on-failure"),
        ("Retries", "retries"),
        ("StartPeriod", "start-period"),
        ("StartupCmd", "startup-cmd"),
        ("StartupInterval", "startup-interval"),
        ("StartupRetries", "startup-retries"),
        ("StartupSuccess", "startup-success"),
        ("StartupTimeout", "startup-timeout"),
        ("Timeout", "timeout"),
    )
)

CONTAINER = _rows(
    *_EVERY,
    *_NAME_SERVERS,
    *_USER_IDS,
    *_HEALTH,
    _row("AddCapability", WORDS, "--cap-add"),
    _row("AddDevice", OWN, "--device"),
    _row("AddHost", TEXTS, "--add-host"),
    _row("Annotation", PAIRS, "--annotation"),
    _row("AutoUpdate", OWN, "--label"),
    _row("CgroupsMode", OWN, "--cgroups"),
    _row("ContainerName", OWN, "--name"),
    _row("DropCapability", WORDS, "--cap-drop"),
    _row("Entrypoint", TEXT, "--entrypoint"),
    _row("Environment", PAIRS, "--env"),
    _row("EnvironmentFile", FILES, "--env-file"),
    _row("EnvironmentHost", FLAG, "--env-host"),
    _row("Exec", OWN),
    _row("ExposeHostPort", TEXTS, "--expose"),
    _row("Group", OWN, "--user"),
    _row("GroupAdd", TEXTS, "--group-add"),
    _row("HostName", TEXT, "--hostname"),
    _row("Image", OWN),
    _row("IP", TEXT, "--ip"),
    _row("IP6", TEXT, "--ip6"),
    _row("Label", PAIRS, "--label"),
    _row("LogDriver", TEXT, "--log-driver"),
    _row("LogOpt", WORDS, "--log-opt"),
    _row("Mask", WORDS, "--security-opt", "mask="),
    _row("Mount", OWN, "--mount"),
    _row("Network", OWN, "--network"),
    _row("NetworkAlias", TEXTS, "--network-alias"),
    _row("NoNewPrivileges", OWN, "--security-opt", "no-new-privileges"),
    _row("Notify", OWN, "--sdnotify"),
    _row("PidsLimit", TEXT, "--pids-limit"),
    _row("Pod", OWN, "--pod-id-file"),
    _row("PublishPort", TEXTS, "--publish"),
    _row("Pull", TEXT, "--pull"),
    _row("ReadOnly", FLAG, "--read-only"),
    _row("ReadOnlyTmpfs", FLAG, "--read-only-tmpfs"),
    _row("Rootfs", OWN, "--rootfs"),
    _row("RunInit", FLAG, "--init"),
    _row("SeccompProfile", TEXT, "--security-opt", "seccomp="),
    _row("Secret", WORDS, "--secret"),
    _row("SecurityLabelDisable", OWN, "--security-opt", "label=disable"),
    _row("SecurityLabelFileType", TEXT, "--security-opt", "label=filetype:"),
    _row("SecurityLabelLevel", TEXT, "--security-opt", "label=level:"),
    _row("SecurityLabelNested", OWN, "--security-opt", "label=nested"),
    _row("SecurityLabelType", TEXT, "--security-opt", "label=type:"),
    _row("ShmSize", TEXT, "--shm-size"),
    _row("StartWithPod", OWN),
    _row("StopSignal", TEXT, "--stop-signal"),
    _row("StopTimeout", TEXT, "--stop-timeout"),
    _row("Sysctl", WORDS, "--sysctl"),
    _row("Timezone", TEXT, "--tz"),
    _row("Tmpfs", TEXTS, "--tmpfs"),
    _row("Ulimit", TEXTS, "--ulimit"),
    _row("Unmask", WORDS, "--security-opt", "unmask="),
    _row("User", OWN, "--user"),
    _row("VolatileTmp", TEXT, refused="use Tmpfs=/tmp, which took its place"),
    _row("Volume", OWN, "--volume"),
    _row("WorkingDir", TEXT, "--workdir"),
)

VOLUME = _rows(
    *_EVERY,
    _row("Copy", OWN, "--opt"),
    _row("Device", TEXT, "--opt", "device="),
    _row("Driver", TEXT, "--driver"),
    _row("Group", OWN, "--opt"),
    _row("Image", OWN, "--opt", "image="),
    _row("Label", PAIRS, "--label"),
    _row("Options", OWN, "--opt"),
    _row("Type", TEXT, "--opt", "type="),
    _row("User", OWN, "--opt"),
    _row("VolumeName", OWN),
)

NETWORK = _rows(
    *_EVERY,
    _row("DisableDNS", FLAG, "--disable-dns"),
    _row("DNS", TEXTS, "--dns"),
    _row("Driver", TEXT, "--driver"),
    _row("Gateway", OWN, "--gateway"),
    _row("Internal", FLAG, "--internal"),
    _row("IPAMDriver", TEXT, "--ipam-driver"),
    _row("IPRange", OWN, "--ip-range"),
    _row("IPv6", FLAG, "--ipv6"),
    _row("Label", PAIRS, "--label"),
    _row("NetworkName", OWN),
    _row("Options", TEXTS, "--opt"),
    _row("Subnet", OWN, "--subnet"),
)

IMAGE = _rows(
    *_EVERY,
    *_PLATFORM,
    _row("AllTags", FLAG, "--all-tags"),
    _row("CertDir", TEXT, "--cert-dir"),
    _row("Creds", TEXT, "--creds"),
    _row("DecryptionKey", TEXT, "--decryption-key"),
    _row("Image", OWN),
    _row("ImageTag", OWN),
    _row("OS", TEXT, "--os"),
)

BUILD = _rows(
    *_EVERY,
    *_NAME_SERVERS,
    *_PLATFORM,
    _row("Annotation", PAIRS, "--annotation"),
    _row("Environment", PAIRS, "--env"),
    _row("File", OWN, "--file"),
    _row("ForceRM", FLAG, "--force-rm"),
    _row("GroupAdd", TEXTS, "--group-add"),
    _row("ImageTag", TEXTS, "--tag"),
    _row("Label", PAIRS, "--label"),
    _row("Network", OWN, "--network"),
    _row("Pull", TEXT, "--pull"),
    _row("Secret", WORDS, "--secret"),
    _row("SetWorkingDirectory", OWN),
    _row("Target", TEXT, "--target"),
    _row("Volume", OWN, "--volume"),
)

POD = _rows(
    *_EVERY,
    *_NAME_SERVERS,
    *_USER_IDS,
    _row("AddHost", TEXTS, "--add-host"),
    _row("IP", TEXT, "--ip"),
    _row("IP6", TEXT, "--ip6"),
    _row("Network", OWN, "--network"),
    _row("NetworkAlias", TEXTS, "--network-alias"),
    _row("PodName", OWN, "--name"),
    _row("PublishPort", TEXTS, "--publish"),
    _row("ShmSize", TEXT, "--shm-size"),
    _row("Volume", OWN, "--volume"),
)

KUBE = _rows(
    *_EVERY,
    _row("AutoUpdate", OWN, "--annotation"),
    _row("ConfigMap", FILES, "--configmap"),
    _row("ExitCodePropagation", TEXT, "--service-exit-code-propagation"),
    _row("KubeDownForce", OWN, "--force"),
    _row("LogDriver", TEXT, "--log-driver"),
    _row("Network", OWN, "--network"),
    _row("PublishPort", TEXTS, "--publish"),
    *(row for row in _USER_IDS if row.key.startswith(("Remap", "UserNS"))),
    _row("SetWorkingDirectory", OWN),
    _row("Yaml", OWN),
)

KINDS = {
    "container": Kind(name="container", command="run", suffix="", rows=CONTAINER),
    "volume": Kind(name="volume", command="volume create", suffix="-volume", rows=VOLUME),
    "network": Kind(name="network", command="network create", suffix="-network", rows=NETWORK),
    "image": Kind(name="image", command="image pull", suffix="-image", rows=IMAGE),
    "build": Kind(name="build", command="build", suffix="-build", rows=BUILD),
    "pod": Kind(name="pod", command="pod create", suffix="-pod", rows=POD),
    "kube": Kind(name="kube", command="kube play", suffix="", rows=KUBE),
}

# What the other sections may hold; those of systemd's own are systemd's to judge.
QUADLET = ("DefaultDependencies",)
INSTALL = ("Alias", "WantedBy", "RequiredBy", "DefaultInstance")
SYSTEMD = ("Unit", "Service", "Install")
