"""`image inspect`: an image as JSON, with Podman 5.4's keys.  Weight: none; loaded by `inspect` alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from storage.images import ImageRow

# The image specification's keys of `config`, in its order; those of Docker stand beside them in the result.
_CONFIG_KEYS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "ArgsEscaped",
)  # fmt: skip


def image_json(
    row: ImageRow,
    config: dict[str, Any],
    *,
    annotations: dict[str, str],
    lower: tuple[str, ...],
    driver: str,
    parent: str = "",
) -> dict[str, Any]:
    """One element of `image inspect`'s list.

    config: the image's configuration, parsed; annotations: of its manifest; lower: the layers' directories,
    topmost first; parent: the id of the stored image that it was made from.
    """
    run = config.get("config") or {}
    history = config.get("history") or []
    tags = [name for name in row.names if "@" not in name]
    bases = list(dict.fromkeys(_repository(name) for name in row.names))
    data = {"UpperDir": lower[0]} if lower else {}
    if len(lower) > 1:
        data = {"LowerDir": ":".join(lower[1:]), **data}
    tree: dict[str, Any] = {
        "Id": row.id,
        "Digest": row.manifest_digest,
        "RepoTags": tags,
        "RepoDigests": [f"{base}@{digest}" for base in bases for digest in row.digests or (row.manifest_digest,)],
        "Parent": parent,
        "Comment": str(config.get("comment") or (history[-1].get("comment") if history else "") or ""),
        "Created": config.get("created") or None,
        "Config": {key: run[key] for key in _CONFIG_KEYS if run.get(key)},
        "Version": str(config.get("docker_version") or ""),
        "Author": str(config.get("author") or ""),
        "Architecture": row.architecture,
        "Os": row.os,
        "Size": row.size,
        "VirtualSize": row.size,
        "GraphDriver": {"Name": driver, "Data": data},
        "RootFS": {"Type": "layers", "Layers": list((config.get("rootfs") or {}).get("diff_ids") or [])},
        "Labels": run.get("Labels") or None,
        "Annotations": annotations,
        "ManifestType": row.manifest_type,
        "User": str(run.get("User") or ""),
        "History": history,
        "NamesHistory": tags,
    }
    if row.variant:
        tree["Variant"] = row.variant
    if run.get("Healthcheck"):
        tree["Healthcheck"] = run["Healthcheck"]
    return tree


def _repository(name: str) -> str:
    """ "docker.io/library/alpine:3" and "…/alpine@sha256:…" → "docker.io/library/alpine"."""
    base = name.partition("@")[0]
    head, colon, tag = base.rpartition(":")
    return head if colon and "/" not in tag else base
