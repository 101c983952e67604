"""Names of the files by which a supervisor and the commands find each other.  Weight: none."""

LOCK_FILE = "lock"  # in the container's storage directory: held while a supervisor has the container
ROOT_LOCK_FILE = "root.lock"  # in the storage directory: held while a command has a stopped container's root mounted
EXIT_FILE = "exit.json"  # in the storage directory, once it has ended: Exited
EXIT_SUFFIX = ".exit"  # behind the runtime directory's name, where the storage directory's disk was full: Exited
READY_FILE = "ready.json"  # in the runtime directory, while it runs: Ready
SOCKET_NAME = "ctl"  # in the runtime directory: the control socket
LOG_FILES = {"k8s-file": "ctr.log", "json-file": "ctr.json"}  # in the storage directory, by log driver
