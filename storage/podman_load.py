"""`pull containers-storage:NAME`: an image of Podman's store into this one, without a registry.

Weight: `storage.archive_layers`, `storage.podman_store`.  Runs as uid 0 of the user's namespace.

The image keeps its id and its layers their diff ids.  Its manifest is kept too where it names uncompressed layers (what
Podman built itself); one that came from a registry names compressed ones, which Podman does not keep: such an image
gets a manifest of its own, for layers that are compressed here.
"""

from __future__ import annotations

from storage.archive_layers import Importer, make_manifest
from storage.archives import Loaded
from storage.copy_sources import PodmanSource
from storage.gate import check_source
from storage.manifest import OCI_MANIFEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from storage.database import Database
    from storage.hooks import ShortNames
    from storage.layers import Layer
    from storage.manifest import Descriptor
    from storage.podman_store import LayerReader
    from storage.policy import Policy
    from storage.unpack import UnpackLimits


def load_image(
    db: Database,
    text: str,
    env: Mapping[str, str],
    *,
    policy: Policy,
    short_names: ShortNames,
    single_id: bool = False,
    limits: UnpackLimits | None = None,
) -> Loaded:
    """Store the image that `text` (what follows `containers-storage:`) names, under its names.  Raises Error."""
    with PodmanSource(text, env, short_names) as source, Importer(db, single_id, limits) as importer:
        check_source(policy, source, source.manifest, env)
        image, files = source.image, _Files(source)
        layers: list[Layer] = []
        blobs: list[Descriptor] = []
        for descriptor, held in zip(source.manifest.layers, image.layers, strict=True):
            if source.keeps_manifest:
                layers.append(importer.described_layer(files, held.diff_id, descriptor, held.diff_id, layers))
                continue
            layer, blob = importer.plain_layer(
                lambda h=held: files.open(h.diff_id),  # type: ignore[misc]
                held.diff_id,
                layers,
                f"layer {held.diff_id}",
            )
            layers.append(layer)
            blobs.append(blob)
        manifest = source.manifest
        if not source.keeps_manifest:
            manifest = make_manifest(image.config, blobs, oci=image.manifest.media_type == OCI_MANIFEST)
        image_id = importer.image(image.config, manifest, layers, image.names)
    return Loaded(image_id=image_id, names=image.names)


class _Files:
    """The layers of an image of Podman's, by diff id."""

    def __init__(self, source: PodmanSource) -> None:
        self.what = source.what
        self._source = source

    def has(self, name: str) -> bool:
        """Whether the layer is one of the image's."""
        return name in self._source.layers

    def open(self, name: str) -> LayerReader:
        """The layer's archive."""
        return self._source.store.open_layer(self._source.layers[name])

    def close(self) -> None:
        """Nothing is held."""
