"""--change, with what Podman 5.4 stores for each."""

from __future__ import annotations

import pytest

from rootless.errors import UsageError
from storage.changes import apply_changes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("CMD=/bin/sh", {"Cmd": ["/bin/sh", "-c", "/bin/sh"]}),
        ('CMD ["/bin/sh","-c"]', {"Cmd": ["/bin/sh", "-c"]}),
        ('CMD=["a", "b"]', {"Cmd": ["a", "b"]}),
        ("CMD echo hi", {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        ("cmd=ls", {"Cmd": ["/bin/sh", "-c", "ls"]}),
        ('ENTRYPOINT=["a","b"]', {"Entrypoint": ["a", "b"]}),
        ("ENTRYPOINT a b", {"Entrypoint": ["/bin/sh", "-c", "a b"]}),
        ("ENV=A=b", {"Env": ["A=b"]}),
        ("ENV A=b C=d", {"Env": ["A=b C=d"]}),
        ("ENV A b c", {"Env": ["A=b c"]}),
        ("EXPOSE=80/tcp", {"ExposedPorts": {"80/tcp": {}}}),
        ("EXPOSE 53/UDP", {"ExposedPorts": {"53/udp": {}}}),
        ("LABEL=k=v", {"Labels": {"k": "v"}}),
        ('LABEL k="v w"', {"Labels": {"k": "v w"}}),
        ("STOPSIGNAL=SIGUSR1", {"StopSignal": "10"}),
        ("STOPSIGNAL 9", {"StopSignal": "9"}),
        ("STOPSIGNAL RTMIN+3", {"StopSignal": "37"}),
        ("USER=me", {"User": "me"}),
        ("VOLUME=/a", {"Volumes": {"/a": {}}}),
        ('VOLUME ["/a","/b"]', {"Volumes": {"/a": {}, "/b": {}}}),
        ("WORKDIR=/w", {"WorkingDir": "/w"}),
        ("ONBUILD RUN y", {"OnBuild": ["RUN y"]}),
    ],
)
def test_each_instruction(change: str, expected: dict[str, object]) -> None:
    assert apply_changes({}, [change]) == expected


@pytest.mark.parametrize(
    "change",
    ["FOO=x", "EXPOSE 80 443", "EXPOSE abc", "EXPOSE 70000", "HEALTHCHECK CMD x", "ENV", "ENV A", "CMD", "CMD [x",
     "CMD [1]", "STOPSIGNAL SIGNOPE", "STOPSIGNAL 99", "", "LABEL =x"],
)  # fmt: skip
def test_bad_ones_are_named(change: str) -> None:
    with pytest.raises(UsageError, match="invalid change"):
        apply_changes({}, [change])


def test_later_ones_replace_and_the_original_stays() -> None:
    original = {"Env": ["A=1", "B=2"], "Labels": {"x": "y"}}
    changed = apply_changes(original, ["ENV A=3", "LABEL x=z"])
    assert changed == {"Env": ["B=2", "A=3"], "Labels": {"x": "z"}}
    assert original == {"Env": ["A=1", "B=2"], "Labels": {"x": "y"}}
