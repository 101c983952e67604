"""Commands that talk to registries, besides pull, and on manifests and layers.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.options_access import ACCESS, AUTHFILE, CERT_DIR, RETRY, TLS_VERIFY, authfile
from pyctl.cli.table import BOOL, INT, LIST, STRING, UINTS, Command, Option, command, no, opt

_KEEP_IN = "File to keep the login in (default: REGISTRY_AUTH_FILE, or $XDG_RUNTIME_DIR/containers/auth.json)"
_COMPAT = opt(
    "compat-auth-file", "", STRING, "The same, in the form of docker's config.json", metavar="FILE", complete="file"
)


def cmd_login() -> Command:
    return command(
        "login",
        "[REGISTRY]",
        "Log in to a registry",
        "pyctl.cli.verb_login:login",
        opt("username", "u", STRING, "User name", metavar="USER"),
        opt("password", "p", STRING, "Password (seen by others in the process list: prefer --password-stdin)"),
        opt("password-stdin", "", BOOL, "Read the password from stdin"),
        opt("get-login", "", BOOL, "Print the user name that one is logged in with"),
        opt("verbose", "v", BOOL, "Print where the login is kept"),
        authfile(_KEEP_IN),
        _COMPAT,
        CERT_DIR,
        TLS_VERIFY,
        no("secret", "", STRING, "secrets are not built yet"),
        description=(
            "The registry is asked whether it takes the user name and the password; only then they are kept, in a file"
            " that nobody else may read, or by the credential helper that is configured. REGISTRY may be a part of one"
            " (quay.io/team). Without REGISTRY: the first that registries.conf searches."
        ),
        examples=(("pyctl login -u me --password-stdin quay.io < token", "without a password on the command line"),),
        args=(0, 1),
    )


def cmd_logout() -> Command:
    return command(
        "logout",
        "[REGISTRY]",
        "Forget a login to a registry",
        "pyctl.cli.verb_login:logout",
        opt("all", "a", BOOL, "Every login"),
        authfile("File that the login is kept in"),
        _COMPAT,
        args=(0, 1),
    )


# What is in the store has no signatures of before that could be sent.
REMOVE_SIGNATURES = opt(
    "remove-signatures", "", BOOL, "", default=True, choices=("true",), refused="signatures are not stored"
)


def signing() -> tuple[Option, ...]:
    """The keys that what is sent is signed with."""
    return (
        opt("sign-by", "", STRING, "Sign it with one of your GPG keys (see: image sign)", metavar="KEY"),
        opt(
            "sign-by-sigstore-private-key",
            "",
            STRING,
            "Sign it with a sigstore private key, and attach the signature to the image",
            metavar="FILE",
            complete="file",
        ),
        opt(
            "sign-by-sigstore",
            "",
            STRING,
            "The same with parameters from a file: privateKeyFile, privateKeyPassphraseFile",
            metavar="FILE",
            complete="file",
        ),
        opt(
            "sign-passphrase-file",
            "",
            STRING,
            "File whose first line is the key's passphrase (default: it is asked for)",
            metavar="FILE",
            complete="file",
        ),
    )


def cmd_push() -> Command:
    return command(
        "push",
        "IMAGE [DESTINATION]",
        "Send an image to a registry, or into an archive",
        "pyctl.cli.verb_push:push",
        opt("quiet", "q", BOOL, "No progress"),
        opt("digestfile", "", STRING, "Write the manifest's digest here", metavar="FILE", complete="file"),
        opt("format", "f", STRING, "The manifest's form (default: as it is stored)", choices=("oci", "v2s2")),
        opt(
            "compression-format",
            "",
            STRING,
            "Compress layers anew that are not compressed so (their digests change)",
            choices=("gzip", "zstd"),
        ),
        opt("compression-level", "", INT, "The compressor's level: 1 to 9, with zstd to 22", metavar="N"),
        opt(
            "force-compression",
            "",
            BOOL,
            "With --compression-format: also layers that are compressed otherwise",
            default=True,
        ),
        opt("compress", "", BOOL, "Compress uncompressed layers (dir: only)"),
        *ACCESS,
        *RETRY,
        opt(
            "disable-content-trust",
            "",
            BOOL,
            "",
            default=True,
            choices=("true",),
            refused="docker's content trust does not exist here",
        ),
        REMOVE_SIGNATURES,
        *signing(),
        no("encrypt-layer", "", UINTS, "encrypted images are not built yet"),
        no("encryption-key", "", LIST, "encrypted images are not built yet"),
        description=(
            "DESTINATION is a name ([docker://]REGISTRY/NAME[:TAG]), or one of oci:DIR[:NAME], oci-archive:FILE[:NAME],"
            " docker-archive:FILE[:NAME], dir:DIR; without it, the image's own name. Layers are sent as they came, so"
            " that digests stay; what the registry has is not sent again. IMAGE@DIGEST of an index sends the images of"
            " all its platforms, which must have been pulled."
        ),
        examples=(
            ("pyctl push app:1 quay.io/me/app:1", "under another name"),
            ("pyctl push app:1 oci:/srv/images:app", "into a directory"),
        ),
        args=(1, 2),
        complete="image",
        aliases=("image push",),
    )


def cmd_search() -> Command:
    return command(
        "search",
        "[REGISTRY/]TERM",
        "Search registries for repositories, or a repository for tags",
        "pyctl.cli.verb_search:search",
        opt("list-tags", "", BOOL, "The tags of the repository TERM"),
        opt("limit", "", INT, "At most so many of each registry (default: 25)", metavar="N"),
        opt(
            "filter",
            "f",
            LIST,
            "Only those that match: stars=N, is-official, is-automated (repeatable)",
            metavar="KEY[=VALUE]",
        ),
        opt("format", "", STRING, "json, or a Go template for each line", metavar="FORMAT"),
        opt("no-trunc", "", BOOL, "Do not shorten descriptions"),
        opt("compatible", "", BOOL, "Columns for stars, official and automated, as docker has them"),
        *ACCESS,
        description=(
            "Without REGISTRY, those that registries.conf searches. A registry with no search of its own is read whole"
            " and filtered by TERM."
        ),
        examples=(
            ("pyctl search localhost:5000/", "all repositories of a registry"),
            ("pyctl search --list-tags docker.io/library/debian", "the tags of one repository"),
        ),
        args=(1, 1),
        aliases=("image search",),
    )


def cmd_manifest_inspect() -> Command:
    return command(
        "manifest inspect",
        "LIST|IMAGE",
        "Print a manifest list, or the index or manifest that a registry has",
        "pyctl.cli.verb_manifest:inspect",
        AUTHFILE,
        TLS_VERIFY,
        description="IMAGE is [docker://]REGISTRY/NAME, with a tag or a digest. Nothing of it is stored.",
        args=(1, 1),
    )


def cmd_image_tree() -> Command:
    return command(
        "image tree",
        "IMAGE",
        "Show an image's layers, and which images end with them",
        "pyctl.cli.verb_image_tree:tree",
        opt("whatrequires", "", BOOL, "The layers that were made upon the image"),
        args=(1, 1),
        complete="image",
    )
