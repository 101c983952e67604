# make demo   one container, end to end, as an unprivileged user
# make test   all tests, as an unprivileged user, on this machine and on the test host
# make lint   ruff and mypy
# make bench  medians beside a podman:  make bench PODMAN=podman
# make soak   the long tests: cycles, kills, full disks
# make test-host      limits, tested on a host with systemd and cgroup v2 in a process (contrib/testhost/README.md)
# make testhost-image its disk image alone
# make wheel  dist/pyctl-*.whl, for every Python from 3.11 on
# They install what is missing with apt (root or sudo) and keep their files in /var/tmp/pyctl-dev-UID.

SETUP := contrib/setup

.PHONY: demo test lint bench soak test-host testhost-image wheel clean

demo:
	@contrib/demo/demo

test:
	@$(SETUP)/run-tests $(ARGS)

lint:
	@$(SETUP)/run-tests tests/lint $(ARGS)

bench:
	@PODMAN='$(PODMAN)' PODMAN_WRAPPER='$(PODMAN_WRAPPER)' $(SETUP)/run-tests --bench $(ARGS)

soak:
	@PYCTL_TEST_CYCLES=3000 $(SETUP)/run-tests tests/system/test_many.py tests/system/test_crash.py tests/fault --timeout 7200 $(ARGS)

# A part of `make test`; alone, and with ARGS, quicker while one works on limits.
test-host:
	@contrib/testhost/run-tests $(ARGS)

testhost-image:
	@contrib/testhost/run-tests --image

wheel:
	@$(SETUP)/build-wheel

clean:
	rm -rf build dist *.egg-info rootless/_syscalls.c rootless/*.so .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
