"""Commands on manifest lists and artifacts.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.options_access import ACCESS, RETRY, TLS_VERIFY
from pyctl.cli.options_registry import REMOVE_SIGNATURES, signing
from pyctl.cli.table import BOOL, CSV, INT, LIST, STRING, Command, command, no, opt

_ANNOTATION = opt("annotation", "", LIST, "Set an annotation", metavar="NAME=VALUE")
_PLATFORM = (
    opt("arch", "", STRING, "Architecture that the image is for", metavar="ARCH"),
    opt("os", "", STRING, "Operating system that it is for", metavar="OS"),
    opt("os-version", "", STRING, "Version of that system", metavar="VERSION"),
    opt("variant", "", STRING, "Variant of the architecture", metavar="VARIANT"),
    opt("features", "", CSV, "Features of the processor that it needs", metavar="FEATURE,…"),
)


def cmd_manifest_create() -> Command:
    return command(
        "manifest create",
        "LIST [IMAGE...]",
        "Make a list of images for several platforms",
        "pyctl.cli.verb_manifest:create",
        opt("all", "", BOOL, "Of an IMAGE that is an index: every image in it"),
        opt("amend", "a", BOOL, "Add to the list, where there is one of this name"),
        _ANNOTATION,
        TLS_VERIFY,
        description="The list is kept in the storage, with all that its images consist of, until `manifest rm`.",
        examples=(("pyctl manifest create app app:amd64 app:arm64", "two images under one name"),),
        args=(1, -1),
        complete="image",
    )


def cmd_manifest_add() -> Command:
    return command(
        "manifest add",
        "LIST IMAGE|FILE...",
        "Add images, or an artifact of files, to a list",
        "pyctl.cli.verb_manifest:add",
        opt("all", "", BOOL, "Of an IMAGE that is an index: every image in it"),
        _ANNOTATION,
        *_PLATFORM,
        "Artifacts",
        opt("artifact", "", BOOL, "The arguments are files, which become an artifact"),
        opt("artifact-type", "", STRING, "Its type", metavar="TYPE"),
        opt("artifact-config", "", STRING, "File that is its configuration", metavar="FILE", complete="file"),
        opt("artifact-config-type", "", STRING, "Media type of its configuration", metavar="TYPE"),
        opt("artifact-layer-type", "", STRING, "Media type of its files", metavar="TYPE"),
        opt("artifact-exclude-titles", "", BOOL, "Do not note the files' names"),
        opt("artifact-subject", "", STRING, "Image that it is about", metavar="IMAGE", complete="image"),
        "Registries",
        *ACCESS,
        description=(
            "IMAGE is a stored image, or else a name in a registry; docker://NAME, oci:DIR, dir:DIR and archives are"
            " read from there. What is added is kept with the list."
        ),
        args=(2, -1),
        complete="image",
    )


def cmd_manifest_annotate() -> Command:
    return command(
        "manifest annotate",
        "LIST [IMAGE|DIGEST]",
        "Change what a list says of one of its images, or of itself",
        "pyctl.cli.verb_manifest:annotate",
        opt("index", "", BOOL, "The annotations are the list's own"),
        _ANNOTATION,
        *_PLATFORM,
        opt("os-features", "", CSV, "Features of the operating system that it needs", metavar="FEATURE,…"),
        opt("subject", "", STRING, "Image that the list is about (with --index)", metavar="IMAGE", complete="image"),
        args=(1, 2),
        complete="image",
    )


def cmd_manifest_remove() -> Command:
    return command(
        "manifest remove",
        "LIST IMAGE|DIGEST",
        "Take an image out of a list",
        "pyctl.cli.verb_manifest:remove",
        args=(2, 2),
        complete="image",
    )


def cmd_manifest_rm() -> Command:
    return command(
        "manifest rm",
        "LIST [LIST...]",
        "Remove lists; the images stay",
        "pyctl.cli.verb_manifest:rm",
        opt("ignore", "i", BOOL, "Do not fail when a list does not exist"),
        args=(1, -1),
        complete="image",
    )


def cmd_manifest_exists() -> Command:
    return command(
        "manifest exists",
        "LIST",
        "Ask whether a list exists (status 0) or not (status 1)",
        "pyctl.cli.verb_manifest:exists",
        args=(1, 1),
        complete="image",
    )


def cmd_manifest_push() -> Command:
    return command(
        "manifest push",
        "LIST [DESTINATION]",
        "Send a list, with its images, to a registry or a directory",
        "pyctl.cli.verb_manifest:push",
        opt("all", "", BOOL, "The images too, not the list alone", default=True),
        opt("rm", "", BOOL, "Remove the list afterwards"),
        opt("format", "f", STRING, "The form of the manifests (default: as they are)", choices=("oci", "v2s2")),
        opt("digestfile", "", STRING, "Write the list's digest here", metavar="FILE", complete="file"),
        opt("quiet", "q", BOOL, "No progress"),
        opt("compression-format", "", STRING, "Compress layers anew that are not so", choices=("gzip", "zstd")),
        opt("compression-level", "", INT, "The compressor's level: 1 to 9, with zstd to 22", metavar="N"),
        no("force-compression", "", BOOL, "--compression-format compresses every layer that is not so"),
        no("add-compression", "", CSV, "an image is in a list once"),
        *ACCESS,
        REMOVE_SIGNATURES,
        *signing(),
        description=(
            "DESTINATION is a name in a registry (default: the list's own), or oci:DIR, oci-archive:FILE, dir:DIR."
        ),
        args=(1, 2),
        complete="image",
    )


# --- artifacts ---------------------------------------------------------------------------------


def cmd_artifact_add() -> Command:
    return command(
        "artifact add",
        "ARTIFACT FILE...",
        "Store files as an artifact",
        "pyctl.cli.verb_artifact:add",
        opt("type", "", STRING, "The artifact's type", metavar="TYPE"),
        opt("annotation", "", LIST, "Set an annotation on each file", metavar="NAME=VALUE"),
        opt("append", "a", BOOL, "Add the files to an artifact that exists"),
        opt("file-type", "", STRING, "Media type of the files (default: by what is in them)", metavar="TYPE"),
        description="ARTIFACT is REGISTRY/NAME[:TAG], as of an image: where it can be pushed to.",
        examples=(("pyctl artifact add quay.io/me/model:1 weights.bin", "one file"),),
        args=(2, -1),
        complete="file",
    )


def cmd_artifact_ls() -> Command:
    return command(
        "artifact ls",
        "",
        "List artifacts",
        "pyctl.cli.verb_artifact:ls",
        opt("format", "", STRING, "json, or a Go template as '{{.Repository}} {{.Size}}'", metavar="FORMAT"),
        opt("no-trunc", "", BOOL, "Whole digests"),
        opt("noheading", "n", BOOL, "No line of headings"),
        aliases=("artifact list",),
    )


def cmd_artifact_inspect() -> Command:
    return command(
        "artifact inspect",
        "ARTIFACT",
        "Show an artifact's manifest",
        "pyctl.cli.verb_artifact:inspect",
        args=(1, 1),
        complete="artifact",
    )


def cmd_artifact_rm() -> Command:
    return command(
        "artifact rm",
        "[ARTIFACT...]",
        "Remove artifacts",
        "pyctl.cli.verb_artifact:rm",
        opt("all", "a", BOOL, "Every artifact"),
        args=(0, -1),
        complete="artifact",
        aliases=("artifact remove",),
    )


def cmd_artifact_extract() -> Command:
    return command(
        "artifact extract",
        "ARTIFACT PATH",
        "Write an artifact's files to a file or into a directory",
        "pyctl.cli.verb_artifact:extract",
        opt("digest", "", STRING, "Only the file with this digest", metavar="DIGEST"),
        opt("title", "", STRING, "Only the file of this name", metavar="NAME"),
        examples=(("pyctl artifact extract quay.io/me/model:1 ./model", "all files into a directory"),),
        args=(2, 2),
        complete="artifact",
    )


def cmd_artifact_pull() -> Command:
    return command(
        "artifact pull",
        "ARTIFACT",
        "Fetch an artifact from a registry",
        "pyctl.cli.verb_artifact:pull",
        opt("quiet", "q", BOOL, "No progress"),
        *ACCESS,
        *RETRY,
        no("decryption-key", "", LIST, "encrypted artifacts are not built yet"),
        args=(1, 1),
    )


def cmd_artifact_push() -> Command:
    return command(
        "artifact push",
        "ARTIFACT",
        "Send an artifact to its registry",
        "pyctl.cli.verb_artifact:push",
        opt("quiet", "q", BOOL, "No progress"),
        opt("digestfile", "", STRING, "Write the manifest's digest here", metavar="FILE", complete="file"),
        *ACCESS,
        *RETRY,
        *signing(),
        args=(1, 1),
        complete="artifact",
    )
