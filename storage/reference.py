"""Image references: `[host[:port]/]path[:tag][@digest]`, parsed by the distribution project's grammar.

Weight: `rootless.values`, `rootless.errors`, `storage.digest`; no `re`, as every `run` parses one.

    reference := name [":" tag] ["@" digest]      name := [domain "/"] component ("/" component)*
    domain    := host [":" digits]                host := DNS name | IPv4 | "[" IPv6 "]"
    component := [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
    tag       := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

(https://github.com/distribution/reference, reference.go.)  A *short name* names no registry:
its first component has no dot and no port and is not `localhost`.  `parse` reads it as Docker does
(docker.io, `library/` before a single component); which registries a short name really stands for
is `storage.registries_conf.resolve`'s to say.
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.values import Value
from storage.digest import is_digest, is_hex

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"

# Bounds of the grammar: the path without its domain, and a tag.
MAX_PATH = 255
MAX_TAG = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG_FIRST = _ALNUM | {"_"}
_TAG_REST = _TAG_FIRST | {".", "-"}
_DOMAIN_REST = _ALNUM | {"-"}
_DIGITS = frozenset("0123456789")
_IPV6 = frozenset("0123456789abcdefABCDEF:")
_SEPARATORS = ("", ".", "_", "__")


class InvalidReferenceError(UsageError):
    """A string that should name an image is no reference."""


class Reference(Value):
    """One normalised reference: always with a registry; tag and digest only where given.

    domain: "docker.io", "localhost:5000"; path: "library/alpine"; tag: "3.20" or "";
    digest: "sha256:…" or "".  Where both are given the digest decides.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """`docker.io/library/alpine`: no tag, no digest."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        """`docker.io/library/alpine:3.20@sha256:…`, as `parse` reads it again."""
        text = self.name
        if self.tag:
            text += ":" + self.tag
        if self.digest:
            text += "@" + self.digest
        return text

    @property
    def tagged(self) -> str:
        """`name:tag`, "" where there is no tag: what an image is listed under."""
        return f"{self.name}:{self.tag}" if self.tag else ""

    def with_default_tag(self) -> Reference:
        """The same with `:latest` where neither tag nor digest was given."""
        return self if self.tag or self.digest else self.replace(tag=DEFAULT_TAG)


def parse(text: str) -> Reference:
    """The normalised reference that `text` means, short names taken as docker.io's.

    Adds no tag (see `Reference.with_default_tag`).  Raises InvalidReferenceError.
    """
    name, tag, digest = _split(text)
    domain, path = _split_domain(name)
    if not domain:
        domain = DOCKER_HUB
    return _normalised(text, domain, path, tag, digest)


def is_short(text: str) -> bool:
    """Whether `text` names no registry.  Raises InvalidReferenceError where it is no reference at all."""
    name, tag, digest = _split(text)
    domain, path = _split_domain(name)
    _normalised(text, domain or DOCKER_HUB, path, tag, digest)
    return not domain


def split_short(text: str) -> tuple[str, str, str]:
    """Name, tag and digest of a short name, the latter two "" where not given.  Raises InvalidReferenceError."""
    if not is_short(text):
        raise InvalidReferenceError(f"{text!r} is no short name")
    return _split(text)


def with_registry(registry: str, text: str) -> Reference:
    """The reference of short name `text` at `registry` ("localhost", "quay.io", "example.com/team")."""
    return parse(f"{registry}/{text}")


def parse_repository(text: str, what: str = "repository") -> Reference:
    """A reference that must have neither tag nor digest (an alias's target, `search`)."""
    reference = parse(text)
    if reference.tag or reference.digest:
        raise InvalidReferenceError(f"{what} {text!r} must have neither a tag nor a digest")
    return reference


def is_tag(text: str) -> bool:
    """Whether `text` is a valid tag."""
    return 0 < len(text) <= MAX_TAG and text[0] in _TAG_FIRST and _TAG_REST.issuperset(text)


def is_domain(text: str) -> bool:
    """Whether `text` is `host` or `host:port` by the grammar."""
    host, port = _split_port(text)
    if port is not None and not (port and _DIGITS.issuperset(port)):
        return False
    if host.startswith("["):
        return host.endswith("]") and len(host) > 2 and _IPV6.issuperset(host[1:-1])
    return all(
        label and _DOMAIN_REST.issuperset(label) and label[0] != "-" and label[-1] != "-" for label in host.split(".")
    )


def is_path(text: str) -> bool:
    """Whether `text` is a repository path, of at most 255 characters."""
    return 0 < len(text) <= MAX_PATH and all(_is_component(part) for part in text.split("/"))


def _split(text: str) -> tuple[str, str, str]:
    """Name, tag and digest as written; tag and digest are checked."""
    if not text:
        raise InvalidReferenceError("an image name is empty")
    name, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise InvalidReferenceError(
            f"image {_shown(text)}: invalid digest {_shown(digest)}",
            hint="sha256: and 64 lower-case hex digits are valid",
        )
    # A colon belongs to a tag only behind the last slash: before it is a port.
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    tag = ""
    if colon >= 0:
        name, tag = name[:colon], name[colon + 1 :]
        if not is_tag(tag):
            raise InvalidReferenceError(
                f"image {_shown(text)}: invalid tag {_shown(tag)}",
                hint="a tag is up to 128 letters, digits, '_', '.' and '-', and begins with none of the last two",
            )
    return name, tag, digest


def _split_domain(name: str) -> tuple[str, str]:
    """`("", name)` where the first component is no registry."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.startswith("[")):
        return first, rest
    return "", name


def _normalised(text: str, domain: str, path: str, tag: str, digest: str) -> Reference:
    if not is_domain(domain):
        raise InvalidReferenceError(f"image {_shown(text)}: invalid registry {_shown(domain)}")
    if domain == "index.docker.io":  # Docker's historic name of the same registry
        domain = DOCKER_HUB
    if domain == DOCKER_HUB and path and "/" not in path:
        if is_hex(path):
            raise InvalidReferenceError(
                f"image {_shown(text)}: 64 hex digits are an image's id, they cannot be its name"
            )
        path = "library/" + path
    if not is_path(path):
        if len(path) > MAX_PATH:
            raise InvalidReferenceError(f"image {_shown(text)}: the name is longer than {MAX_PATH} characters")
        if path != path.lower():
            raise InvalidReferenceError(f"image {_shown(text)}: a repository name must be lower case")
        raise InvalidReferenceError(
            f"image {_shown(text)}: invalid reference format", hint="[REGISTRY[:PORT]/]NAME[:TAG][@DIGEST] is expected"
        )
    return Reference(domain=domain, path=path, tag=tag, digest=digest)


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if rest and not rest.startswith(":"):
            return text, ""  # no valid port: rejected by the caller
        return host + bracket, rest[1:] if rest else None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _is_component(text: str) -> bool:
    """`[a-z0-9]+` runs joined by ".", "_", "__" or any number of "-"."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    if _LOWER.issuperset(text):
        return True
    separator = ""
    for char in text:
        if char in _LOWER:
            if separator not in _SEPARATORS and separator.strip("-"):
                return False
            separator = ""
        elif char in "._-":
            separator += char
        else:
            return False
    return True


def _shown(text: str) -> str:
    """Quoted, with control characters escaped and a bound on its length."""
    return repr(text if len(text) <= 120 else text[:117] + "...")
