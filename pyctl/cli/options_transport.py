"""`copy`: images from one place to another without the store.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.options_access import AUTHFILE, CERT_DIR, PLATFORM, RETRY_DELAY, RETRY_TIMES, TLS_VERIFY, authfile
from pyctl.cli.options_registry import signing
from pyctl.cli.table import BOOL, INT, LIST, STRING, UINTS, Command, Option, command, no, opt

_ENCRYPTED = "encrypted images are not built yet"


def _side(side: str, word: str) -> tuple[Option, ...]:
    """The options of one of the two registries."""
    return (
        opt(f"{side}-creds", "", STRING, f"Log in to the {word} with these", metavar="USER[:PASSWORD]"),
        opt(f"{side}-username", "", STRING, "The same in two parts", metavar="USER"),
        opt(f"{side}-password", "", STRING, "Seen by others in the process list: prefer --authfile"),
        opt(f"{side}-no-creds", "", BOOL, "Log in with nothing, whatever is kept"),
        opt(f"{side}-authfile", "", STRING, f"File with logins for the {word}", metavar="FILE", complete="file"),
        opt(f"{side}-cert-dir", "", STRING, f"Certificates for the {word}", metavar="DIR", complete="dir"),
        opt(f"{side}-tls-verify", "", BOOL, "Insist on https and a valid certificate", default=True),
        no(f"{side}-registry-token", "", STRING, "tokens are fetched with a login"),
        no(f"{side}-daemon-host", "", STRING, "there is no docker daemon to ask"),
        no(f"{side}-shared-blob-dir", "", STRING),
    )


def cmd_copy() -> Command:
    return command(
        "copy",
        "SOURCE DESTINATION",
        "Copy an image from one registry, archive or directory to another, without storing it",
        "pyctl.cli.verb_copy:copy",
        opt("all", "a", BOOL, "An index with the images of all its platforms"),
        opt(
            "multi-arch",
            "",
            STRING,
            "What of an index: this machine's image, all, or the index alone",
            metavar="WHAT",
            choices=("system", "all", "index-only"),
        ),
        *PLATFORM,
        opt("format", "f", STRING, "The manifest's form (default: as it is)", choices=("oci", "v2s2")),
        opt("preserve-digests", "", BOOL, "Fail where a digest would change"),
        opt("remove-signatures", "", BOOL, "Do not copy signatures"),
        opt("additional-tag", "", LIST, "A further name in a docker-archive (repeatable)", metavar="NAME"),
        opt("digestfile", "", STRING, "Write the manifest's digest here", metavar="FILE", complete="file"),
        opt("quiet", "q", BOOL, "No progress"),
        RETRY_TIMES,
        RETRY_DELAY,
        authfile("File with logins, for both sides"),
        opt("policy", "", STRING, "Another policy.json than the usual", metavar="FILE", complete="file"),
        opt("insecure-policy", "", BOOL, "Take the image whatever policy.json says"),
        "Source",
        *_side("src", "source"),
        no("decryption-key", "", LIST, _ENCRYPTED),
        "Destination",
        *_side("dest", "destination"),
        opt("dest-compress", "", BOOL, "Compress uncompressed layers (dir: only; others do)"),
        opt("dest-decompress", "", BOOL, "Write layers uncompressed (dir: only)"),
        opt("dest-compress-format", "", STRING, "Compress layers so that are not", choices=("gzip", "zstd")),
        opt("dest-compress-level", "", INT, "The compressor's level: 1 to 9, with zstd to 22", metavar="N"),
        opt("dest-oci-accept-uncompressed-layers", "", BOOL, "Leave layers uncompressed in an OCI layout"),
        no("dest-precompute-digests", "", BOOL, "digests are always known before a layer is sent"),
        no("encrypt-layer", "", UINTS, _ENCRYPTED),
        no("encryption-key", "", LIST, _ENCRYPTED),
        "Signing",
        *signing(),
        opt("sign-identity", "", STRING, "The name that is signed (default: the destination's)", metavar="NAME"),
        description=(
            "SOURCE and DESTINATION are each one of docker://NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME],"
            " docker-archive:FILE[:NAME], dir:DIR; SOURCE may also be containers-storage:NAME, an image of your own"
            " Podman's store. Bytes and digests stay wherever the destination can hold them; what it has is not sent"
            " again."
        ),
        examples=(
            ("pyctl copy docker://quay.io/a/app:1 oci:/srv/images:app", "from a registry into a directory"),
            ("pyctl copy --all docker://a.example/app docker://b.example/app", "all platforms, between registries"),
        ),
        args=(2, 2),
    )


def cmd_image_trust_show() -> Command:
    return command(
        "image trust show",
        "[REGISTRY]",
        "Show which images policy.json lets in",
        "pyctl.cli.verb_image_trust:show",
        opt("json", "j", BOOL, "As JSON"),
        opt("noheading", "n", BOOL, "Without the line of headings"),
        opt("raw", "", BOOL, "The file as it is"),
        opt("policypath", "", STRING, "Another policy.json than the usual", metavar="FILE", complete="file"),
        args=(0, 1),
    )


def cmd_image_trust_set() -> Command:
    return command(
        "image trust set",
        "REGISTRY",
        "Say in policy.json which images may come in from a registry",
        "pyctl.cli.verb_image_trust:set_",
        opt(
            "pubkeysfile",
            "f",
            LIST,
            "A public key that must have signed the images (repeatable: all of them)",
            metavar="FILE",
            complete="file",
        ),
        opt(
            "type",
            "t",
            STRING,
            "What to do with images from there",
            default="signedBy",
            choices=("accept", "reject", "signedBy", "sigstoreSigned"),
        ),
        opt("policypath", "", STRING, "Another policy.json than the user's", metavar="FILE", complete="file"),
        description=(
            "REGISTRY is HOST[:PORT][/PATH][:TAG], *.DOMAIN, or `default` for all that is named nowhere. The user's own"
            " policy.json is written; what the system's says is taken over into it first."
        ),
        examples=(("pyctl image trust set -t reject default", "nothing but what is named"),),
        args=(1, 1),
    )


def cmd_image_sign() -> Command:
    return command(
        "image sign",
        "IMAGE [IMAGE...]",
        "Sign images of a registry with a GPG key",
        "pyctl.cli.verb_image_trust:sign",
        opt("sign-by", "", STRING, "One of your keys", metavar="KEY"),
        opt(
            "directory",
            "d",
            STRING,
            "Keep the signatures below it (default: by registries.d)",
            metavar="DIR",
            complete="dir",
        ),
        opt("all", "a", BOOL, "Also the images of an index"),
        AUTHFILE,
        CERT_DIR,
        TLS_VERIFY,
        description="The signature is a file for a lookaside store, by the digest that the registry has now.",
        args=(1, -1),
    )


def cmd_image_scp() -> Command:
    return command(
        "image scp",
        "[HOST::]IMAGE [HOST::[NAME]]",
        "Copy an image to or from another machine, by ssh",
        "pyctl.cli.verb_image_scp:scp",
        opt("quiet", "q", BOOL, "Print nothing"),
        description=(
            "HOST is [USER@]HOST as ssh takes it, or ssh://[USER@]HOST[:PORT]. The other side needs pyctl or podman;"
            " digests stay. With NAME the image gets that name there too."
        ),
        examples=(
            ("pyctl image scp app:1 build7::", "to another machine"),
            ("pyctl image scp me@build7::app:1", "from it"),
        ),
        args=(1, 2),
        complete="image",
    )
