"""Entering the user namespace for a command that touches files of mapped ids.  Weight: `rootless.userns`."""

from __future__ import annotations

from rootless import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from storage.unpack import UnpackLimits


def enter(engine: Engine, unpacks: bool = False) -> bool:
    """Become root of the user's namespace; True where only one id is mapped.

    unpacks: the command unpacks an image, whose owners a single id cannot keep: that is said on stderr.  The engine's
    directories are found before: inside, every owner looks other.  Raises Error where the machine does not allow it.
    """
    runtime_root = engine.runtime_root
    if unpacks:
        engine.announce_single_id()
    return userns.enter(runtime_root, mount_namespace=False)


def unpack_limits(engine: Engine) -> UnpackLimits:
    """The caps on what a layer may unpack to, from the settings."""
    from storage.unpack import UnpackLimits

    config, usual = engine.config, UnpackLimits()
    return UnpackLimits(
        max_bytes=config.layer_max_bytes or usual.max_bytes,
        max_entries=config.layer_max_entries or usual.max_entries,
        max_ratio=config.layer_max_ratio or usual.max_ratio,
        max_stream_bytes=config.layer_max_stream_bytes or usual.max_stream_bytes,
        max_name_bytes=config.layer_max_name_bytes or usual.max_name_bytes,
        max_window_bytes=config.layer_max_window_bytes or usual.max_window_bytes,
    )
