"""Times commands where they are to run: a line in is a JSON list of words, a line out [milliseconds, status, peak KiB].

Needs no other file, so that a wrapper can start it as `python3 -c "$(cat worker.py)"` in another root or account.
"""

import json
import os
import sys
import time

null = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
for line in sys.stdin:
    argv = json.loads(line)
    start = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    took = (time.perf_counter() - start) * 1000
    print(json.dumps([took, os.waitstatus_to_exitcode(status), used.ru_maxrss]), flush=True)
