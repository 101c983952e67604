"""What a container may say to the service manager of its supervisor."""

from __future__ import annotations

import os

import pytest

from pyctl.engine import service
from rootless.errors import UsageError
from rootless.notify import permitted
from rootless.plan import NotifyPlan


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (b"READY=1", b"READY=1"),
        (b"READY=1\n", b"READY=1"),
        (b"MAINPID=1", b""),
        (b"STATUS=a=b\nMAINPID=1\nWATCHDOG=trigger", b"STATUS=a=b\nWATCHDOG=trigger"),
        (b"FDSTORE=1\nFDNAME=x\nFDPOLL=0\nFDSTOREREMOVE=1\nNOTIFYACCESS=all\nMAINPIDFD=1\nBARRIER=1", b""),
        (b"mainpid=1\n MAINPID=1\nREADY\n=1\n", b"READY"),
        (b"STATUS=\xff\xfe", b"STATUS=\xff\xfe"),
        (b"READY=1\0MAINPID=1", b""),
        (b"STATUS=" + b"x" * 4090, b""),
        (b"", b""),
    ],
)
def test_what_is_passed_on(said: bytes, passed: bytes) -> None:
    assert permitted(said) == passed


def test_variables_of_the_first_process() -> None:
    own = {"NOTIFY_SOCKET": "/x", "LISTEN_FDNAMES": "a:b", "WATCHDOG_USEC": "5", "WATCHDOG_PID": str(os.getpid())}
    plan = NotifyPlan(socket="/x", mode="container")
    assert service.start_variables(own, 0, None) == ()
    assert service.start_variables(own, 2, None) == ("LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b")
    assert service.start_variables(own, 0, plan) == ("NOTIFY_SOCKET=/run/notify/notify.sock", "WATCHDOG_USEC=5")
    assert service.start_variables({**own, "WATCHDOG_PID": "1"}, 0, plan)[1:] == ()
    assert service.start_variables(own, 0, plan.replace(mode="conmon")) == ()


@pytest.mark.parametrize("count", ["", "-1", "x", "61", "²"])
def test_a_bad_number_of_sockets(count: str) -> None:
    with pytest.raises(UsageError, match="LISTEN_FDS="):
        service.listened({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})
