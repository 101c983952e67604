"""Entry of the supervisor: `python -I -S boot.py SEARCH_PATH ARG…`.  A script is compiled anew at every start, so
it holds nothing but the way to the compiled module."""

import gc
import sys

# Until the container runs: collecting while modules are loaded takes a tenth of the time and finds nothing.
gc.disable()

sys.path[:0] = sys.argv[1].split(":")
from rootless.supervisor import main  # noqa: E402

main(sys.argv[2:])
