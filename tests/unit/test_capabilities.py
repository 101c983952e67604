"""Names, numbers and the arithmetic of --cap-add and --cap-drop."""

import pytest

from rootless import capabilities as c
from rootless.errors import UsageError


def test_numbers_are_the_kernels():
    # linux/capability.h
    assert c.NUMBERS["CAP_CHOWN"] == 0
    assert c.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert c.NUMBERS["CAP_SETFCAP"] == 31
    assert c.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    # what `podman run` shows as CapBnd
    assert c.mask(c.DEFAULT) == 0x800405FB
    assert len(c.DEFAULT) == 11
    assert c.from_mask(0x800405FB) == c.DEFAULT


def test_the_table_reaches_the_running_kernels_end():
    assert c.kernel_set()[-1] in c.NAMES
    assert c.last_known() >= c.NUMBERS["CAP_AUDIT_READ"]


@pytest.mark.parametrize("name", ["net_admin", "NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN", " Net_Admin "])
def test_spellings(name):
    assert c.normalize(name) == "CAP_NET_ADMIN"


@pytest.mark.parametrize(
    ("add", "drop", "bits"),
    [
        ((), (), 0x800405FB),
        (("net_raw",), (), 0x800425FB),
        ((), ("chown",), 0x800405FA),
        (("chown",), ("all",), 0x1),
        (("all",), ("chown",), 0x1FFFFFFFFFE),
        (("ALL",), (), 0x1FFFFFFFFFF),
        ((), ("ALL",), 0),
    ],
)
def test_add_and_drop(add, drop, bits):
    assert c.mask(c.effective(add, drop)) == bits


@pytest.mark.parametrize(("add", "drop"), [(("all",), ("all",)), (("chown",), ("CAP_CHOWN",))])
def test_contradictions_are_refused(add, drop):
    with pytest.raises(UsageError, match="both added and dropped"):
        c.effective(add, drop)


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="unknown capability 'foo'"):
        c.effective(("foo",))
    with pytest.raises(UsageError, match="unknown capability"):
        c.effective((), ("",))


def test_privileged_starts_from_everything_and_still_drops():
    assert c.mask(c.effective(privileged=True)) == 0x1FFFFFFFFFF
    assert "CAP_CHOWN" not in c.effective(drop=("chown",), privileged=True)


def test_an_older_kernel_bounds_the_set():
    old = c.NAMES[:38]
    assert c.effective(("all",), kernel=old) == old
    with pytest.raises(UsageError, match="there is no capability CAP_BPF to be given here"):
        c.effective(("bpf",), kernel=old)


def test_process_sets_as_podman_shows_them():
    bounding = c.effective(("net_raw",))
    root = c.process_sets(bounding, root=True, add=("net_raw",))
    assert root["effective"] == list(bounding)
    assert root["inheritable"] == []
    assert root["ambient"] == []
    user = c.process_sets(bounding, root=False, add=("net_raw",))
    assert user["bounding"] == list(bounding)
    assert user["effective"] == user["ambient"] == user["inheritable"] == ["CAP_NET_RAW"]
    assert c.process_sets(bounding, root=False)["effective"] == []
    assert c.process_sets(c.NAMES, root=False, privileged=True)["permitted"] == []
