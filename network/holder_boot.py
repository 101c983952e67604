"""Entry of the network process: `python -I -S holder_boot.py SEARCH_PATH ARG…`; see rootless/boot.py."""

import sys

sys.path[:0] = sys.argv[1].split(":")
from network.holder import main  # noqa: E402

main(sys.argv[2:])
