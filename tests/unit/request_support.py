"""Parses a command line as `run` does and makes the request of it, for an invented caller and image."""

from __future__ import annotations

from typing import Any

import pytest

from pyctl.cli.parser import parse
from pyctl.engine.model import ContainerSpec, IdRange, Mount
from pyctl.engine.request import Request, container_request
from pyctl.engine.request_facts import ImageChoice, RequestFacts
from rootless.errors import Error, NotFound
from rootless.netplan import NetworkConfig, Subnet
from storage.imageconfig import ImageConfig, ImageHealth
from storage.platforms import Platform

ID = "0123456789abcdef" * 4
OTHER = "f" * 64


class Containers:
    """One other container, `other`, with ids 1 to 1024 of its own, and a network `net` beside the default one."""

    def container_id(self, name: str) -> str:
        if name != "other":
            raise NotFound(f"no container {name}")
        return OTHER

    def mounts(self, name: str) -> tuple[Mount, ...]:
        self.container_id(name)
        return (
            Mount(kind="volume", target="/data", source="data"),
            Mount(kind="bind", target="/src", source="/usr", read_only=True),
            Mount(kind="tmpfs", target="/scratch"),
        )

    def network(self, name: str) -> NetworkConfig:
        if name not in ("net", "bridge"):
            raise NotFound(f"no network {name}")
        if name == "bridge":
            return NetworkConfig(id="cd" * 32, name="podman", interface="podman0")
        subnets = (Subnet(subnet="10.9.0.0/24", gateway="10.9.0.1"), Subnet(subnet="fd00:1::/64", gateway="fd00:1::1"))
        return NetworkConfig(id="ab" * 32, name="net", interface="br", subnets=subnets)

    def taken_ids(self) -> tuple[IdRange, ...]:
        return (IdRange(inside=0, outside=1, size=1024),)


FACTS = RequestFacts(
    uid=1500,
    gid=1600,
    cwd="/",
    environ={"HOME": "/home/me", "LANG": "C", "LC_ALL": "C.UTF-8", "_PYCTL_ROOTLESS_UID": "1500"},
    uid_count=65537,
    gid_count=65537,
    rlimits={"nofile": (1024, 20000), "nproc": (100, 100), "core": (0, -1)},
    host_name="machine",
    subuid_ranges=((100000, 65536),),
    subgid_ranges=((200000, 65536),),
)


def image(**config: Any) -> ImageChoice:
    """An image that runs `sh`, with more settings of its configuration."""
    made = ImageConfig(
        **{"platform": Platform(os="linux", architecture="amd64"), "diff_ids": (), "command": ("sh",), **config}
    )
    return ImageChoice(name="docker.io/library/busybox:latest", id="ab" * 32, digest="sha256:" + "cd" * 32, config=made)


def request(
    *words: str, of: ImageChoice | None = None, facts: RequestFacts = FACTS, args: tuple[str, ...] = ()
) -> Request:
    """`pyctl run WORDS… busybox ARGS…`."""
    parsed = parse(["run", *words, "busybox", *args])
    return container_request(
        parsed.options,
        parsed.args[1:],
        image=of or image(),
        facts=facts,
        lookups=Containers(),
        container_id=ID,
        name="made_up",
        created_ns=1,
        command_line=("pyctl", *parsed.argv),
    )


def spec(*words: str, **more: Any) -> ContainerSpec:
    """The specification of `request`."""
    return request(*words, **more).spec


def refusal(*words: str, **more: Any) -> str:
    """The message of the error that `request` must raise, with Podman's exit status."""
    with pytest.raises(Error) as caught:
        request(*words, **more)
    message = caught.value.message
    assert caught.value.exit_code == 125
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def health(**fields: Any) -> ImageHealth:
    return ImageHealth(**fields)
