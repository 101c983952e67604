"""Runs and times commands where they are to run, as the lines that come in say; a line goes out for each.

In: {"argv": words, "input": base64, "output": bool}.  Out: [milliseconds, status, peak KiB, what it said if asked].
Needs no other file, so that a wrapper can start it as `python3 -c "$(cat worker.py)"` in another root or account.
"""

import base64
import json
import os
import sys
import time

null = os.open(os.devnull, os.O_RDWR)
for line in sys.stdin:
    request = json.loads(line)
    argv, wanted, given = request["argv"], request["output"], base64.b64decode(request["input"])
    source, target = null, null
    if given:
        source = os.memfd_create("input")
        os.write(source, given)
        os.lseek(source, 0, os.SEEK_SET)
    if wanted:
        target = os.memfd_create("output")
    actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, target, 1)]
    start = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    took = (time.perf_counter() - start) * 1000
    said = os.pread(target, 1 << 20, 0).decode() if wanted else ""
    for fd in {source, target} - {null}:
        os.close(fd)
    print(json.dumps([took, os.waitstatus_to_exitcode(status), used.ru_maxrss, said]), flush=True)
