"""The gate that every image passes on its way in: the policy asked with what is known of the image.

Weight: `storage.policy`; signatures are looked for only where a policy asks for them.
"""

from __future__ import annotations

from storage.policy import Candidate, Policy, check, docker_scopes, path_scopes, store_scopes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storage.copy_sources import Source
    from storage.manifest import Index, Manifest
    from storage.reference import Reference
    from storage.registry import Registry
    from storage.signatures import Signature


def check_registry(
    policy: Policy, reference: Reference, digest: str, registry: Registry, place: Reference, env: Mapping[str, str]
) -> None:
    """RejectedError unless `reference`, whose manifest has `digest`, may come in.

    registry, place: where it is read, which is a mirror perhaps; its signatures' names are the reference's.
    """

    def signatures() -> Sequence[Signature]:
        from storage.signature_places import of_registry

        return of_registry(reference, digest, registry, place, env)

    candidate = Candidate(
        what=f"image {reference}",
        transport="docker",
        scopes=docker_scopes(reference),
        digest=digest,
        reference=reference,
    )
    check(policy, candidate, signatures)


def check_files(policy: Policy, transport: str, path: str, ref: str, digest: str) -> None:
    """RejectedError unless an image of an archive or a directory may come in."""

    def signatures() -> Sequence[Signature]:
        if transport != "dir":
            return ()
        from storage.signature_places import of_folder

        return tuple(of_folder(path))

    candidate = Candidate(
        what=f"image {transport}:{path}{':' + ref if ref else ''}",
        transport=transport,
        scopes=path_scopes(transport, path, ref),
        digest=digest,
    )
    check(policy, candidate, signatures)


def check_store(policy: Policy, driver: str, root: str, image_id: str, names: Sequence[str], digest: str) -> None:
    """RejectedError unless an image of Podman's store may come in."""
    scopes = store_scopes(driver, root, image_id, names)
    what = f"image containers-storage:{names[0] if names else image_id}"
    check(policy, Candidate(what=what, transport="containers-storage", scopes=scopes, digest=digest), tuple)


def check_source(policy: Policy, source: Source, document: Manifest | Index, env: Mapping[str, str]) -> None:
    """The same for a source of `copy`."""
    from storage.copy_sources import PodmanSource, RegistrySource

    if isinstance(source, RegistrySource):
        check_registry(policy, source.reference, document.digest, source.registry, source.place, env)
    elif isinstance(source, PodmanSource):
        image, store = source.image, source.store
        check_store(policy, store.driver, store.root, image.id, image.names, document.digest)
    else:
        check_files(policy, source.kind, source.path, source.ref, document.digest)


def signatures_of(source: Source, document: Manifest | Index, env: Mapping[str, str]) -> Sequence[Signature]:
    """The signatures that an image has where it is.  Raises Error where that cannot be found out."""
    from storage.copy_sources import RegistrySource
    from storage.signature_places import of_folder, of_registry

    if isinstance(source, RegistrySource):
        return of_registry(source.reference, document.digest, source.registry, source.place, env)
    if source.kind != "dir":
        return ()
    return tuple(of_folder(source.path, "" if source.document().digest == document.digest else document.digest))
