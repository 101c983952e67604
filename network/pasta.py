"""pasta's options and arguments: pure.

Weight: `network.slirp` (for the facts), `rootless.errors`.  Only with --network pasta.
Options are pasta(1)'s own, with commas between the words, as Podman takes them: `pasta:--mtu,1500,-4`.
"""

from __future__ import annotations

from rootless.errors import Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from network.slirp import NetworkFacts

# Addresses of the link (RFC 3927) that Podman gives to pasta: of its name server, and of the host.
DNS_FORWARDER = "169.254.1.1"
HOST_ADDRESS = "169.254.1.2"

MAP_GUEST = "--map-guest-addr"  # passt 2024-10 and later: reach the host by an address of one's own choice

# What the engine says itself, or what would keep pasta from being its helper.
_OWN = (
    "--netns", "--netns-only", "--no-netns-quit", "--userns", "-P", "--pid", "-f", "--foreground", "-F", "--fd",
    "--runas", "-h", "--help", "--version", "-d", "--debug", "--trace",
)  # fmt: skip
# Ports: the engine publishes them, and the container's ways to the host's loopback (-T, -U) are closed.
_PORTS = (("-t", "--tcp-ports"), ("-u", "--udp-ports"), ("-T", "--tcp-ns"), ("-U", "--udp-ns"))
_MAP_GATEWAY = "--map-gw"  # Podman's: leave out --no-map-gw


def check_options(words: tuple[str, ...]) -> None:
    """Raises UsageError for options that cannot be; pasta itself looks at all others."""
    if words and not words[0].startswith("-"):
        raise UsageError(
            f"--network=pasta:{','.join(words)}: {words[0]!r} is no option", hint="as --network=pasta:--mtu,1500"
        )
    for word in words:
        name = word.partition("=")[0]
        if name in _OWN:
            raise UsageError(f"--network=pasta: {name} is for the engine to say")


def pasta_argv(words: tuple[str, ...], facts: NetworkFacts) -> tuple[str, ...]:
    """Its arguments, without the namespace and the pid file.  Raises Error where it is not installed."""
    if not facts.pasta:
        raise Error("pasta is not installed", hint="install the package passt, or use --network=slirp4netns")
    given = {word.partition("=")[0] for word in words}
    argv = ["--config-net", *(word for word in words if word != _MAP_GATEWAY)]
    for names in _PORTS:
        if given.isdisjoint(names):
            argv += [names[0], "none"]
    if "--dns-forward" not in given:
        argv += ["--dns-forward", DNS_FORWARDER]
    if given.isdisjoint((_MAP_GATEWAY, "--no-map-gw")):
        argv.append("--no-map-gw")
    if facts.pasta_maps_host and MAP_GUEST not in given:
        argv += [MAP_GUEST, HOST_ADDRESS]
    return (*argv, "--quiet")


def dns_forwarder(words: tuple[str, ...]) -> str:
    """The address that pasta takes questions at."""
    found = DNS_FORWARDER
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--dns-forward":
            found = value if equals else words[index + 1] if index + 1 < len(words) else found
    return found
