"""One pull in a process of its own, as root of the user's namespace: `python -m tests.registry.puller JSON`.

Prints one line of JSON: the image, or the error.  With "tmpfs_mb" the storage root is a file system of that size,
which only this process sees; it pulls "image" and then, if that is given, "then".  With "steps" it tells each call
that makes something durable or gives it its name, in order.
"""

from __future__ import annotations

import json
import os
import sys

from rootless import libc, userns
from rootless.errors import Error
from storage import images
from storage.database import Transaction, open_database
from storage.paths import StorePaths
from storage.platforms import parse_platform
from storage.pull import PullOptions, pull
from storage.registry_auth import parse_creds


def attempt(db, image: str, options: PullOptions) -> dict:
    events = []

    def note(event) -> None:
        if event.kind != "bytes":
            events.append([event.kind, event.digest, event.done, event.text])

    try:
        got = pull(db, image, options, os.environ, events=note)
        out = {"id": got.image_id, "digest": got.manifest_digest, "fetched": got.fetched}
    except KeyboardInterrupt:
        out = {"interrupted": True}
    except Error as error:
        out = {"error": error.message, "hint": error.hint, "kind": type(error).__name__}
    rows = images.ImageStore(db).list()
    return {**out, "events": events, "images": sorted(name for row in rows for name in row.names)}


def noting_steps() -> list[list[str]]:
    """From now on: [call, path] of each fsync, syncfs and rename, and of each commit, when it has ended."""
    steps = []

    def note(module, name: str) -> None:
        real = getattr(module, name)

        def noted(first, *others):
            path = first if isinstance(first, str) else os.readlink(f"/proc/self/fd/{first}")
            result = real(first, *others)
            steps.append([name, path, *others])
            return result

        setattr(module, name, noted)

    note(os, "fsync")
    note(os, "rename")
    note(libc, "syncfs")
    leave = Transaction.__exit__

    def left(self, *error):
        leave(self, *error)
        if not self._database._depth:
            steps.append(["commit", "durable" if self._durable else ""])

    Transaction.__exit__ = left
    return steps


def main() -> None:
    order = json.loads(sys.argv[1])
    run = os.environ["XDG_RUNTIME_DIR"] + "/pyctl"
    os.makedirs(run, mode=0o700, exist_ok=True)
    root, tmpfs_mb = order["root"], order.get("tmpfs_mb", 0)
    single = userns.enter(run, mount_namespace=bool(tmpfs_mb))
    if tmpfs_mb:
        os.makedirs(root, exist_ok=True)
        libc.mount("tmpfs", root, "tmpfs", 0, f"size={tmpfs_mb}m")
    paths = StorePaths(root)
    db = open_database(paths)
    options = PullOptions(single_id=single, **order.get("options", {}))
    if order.get("creds"):
        options = options.replace(credentials=parse_creds(order["creds"]))
    if order.get("platform"):
        options = options.replace(platform=parse_platform(order["platform"]))
    steps = noting_steps() if order.get("steps") else []
    out = {**attempt(db, order["image"], options), "steps": steps}
    if tmpfs_mb:
        space = os.statvfs(root)
        out["used_mb"] = (space.f_blocks - space.f_bfree) * space.f_frsize / (1 << 20)
        out["blobs"], out["layers"] = os.listdir(f"{paths.blobs}/sha256"), os.listdir(paths.layers)
    if "then" in order:
        out["then"] = attempt(db, order["then"], options)
    # Not getrusage(2): its maximum is inherited from who started this process.
    with open("/proc/self/status") as status:
        out["peak_mb"] = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
