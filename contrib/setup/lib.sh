# Sourced by the scripts beside it: who runs them, where their working files are, and the test account.
# shellcheck shell=bash

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Public, because the unprivileged test account must read it; a clone below /root or a 0700 folder is not.
WORK=${PYCTL_WORK:-/var/tmp/pyctl-dev-$(id -u)}
ACCOUNT=${PYCTL_TEST_ACCOUNT:-pyctl-test}
SETUP=$TOP/contrib/setup

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# As root, by sudo where needed.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "this needs root, and there is no sudo: $*"; fi
}

# A folder with a guessable name in /var/tmp is only used where it is our own.
work_dir() {
  mkdir -p -m 755 "$WORK"
  [ "$(stat -c %u "$WORK")" = "$(id -u)" ] || die "$WORK belongs to another user; set PYCTL_WORK to a folder of yours"
  chmod 755 "$WORK"
}

# A Python of at least 3.11 that other users can run too.
find_python() {
  local candidate path
  for candidate in ${PYTHON:-} /usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11; do
    path=$(command -v "$candidate") || continue
    "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$path"; return; }
  done
  return 1
}

# The virtual environment with what pyproject.toml names (not pyctl itself): VENV.  Its name holds what it was made
# from, so that one which runs use is never changed under them.
make_venv() {
  local python stamp copies=()
  python=$(find_python) || die "no Python 3.11 or newer"
  # AppArmor grants user namespaces by the path of the program: an interpreter of our own can be named.
  [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null || echo 0)" = 0 ] || copies=(--copies)
  stamp=$({ "$python" -VV; readlink -f "$python"; python_requirements "$python"; } | sha256sum | cut -c1-12)
  VENV=$WORK/venv-$stamp
  if [ ! -e "$VENV/complete" ]; then
    say "virtual environment: $VENV"
    find "$WORK" -maxdepth 1 -name 'venv-*' -mtime +7 -exec rm -rf {} +
    "$python" -m venv --clear "${copies[@]}" "$VENV"
    python_requirements "$python" > "$VENV/requirements"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -r "$VENV/requirements" > "$WORK/pip.log" 2>&1 \
      || { cat "$WORK/pip.log" >&2; die "pip could not install what pyproject.toml names"; }
    chmod -R go+rX "$VENV"
    touch "$VENV/complete"
  fi
  touch "$VENV"
}

python_requirements() {
  "$1" - "$TOP/pyproject.toml" <<'PY'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    document = tomllib.load(file)
project = document["project"]
print("\n".join(document["build-system"]["requires"] + project["dependencies"] + project["optional-dependencies"]["dev"]))
PY
}

# A readable copy of the checkout with the extension built in it: TREE.  Removed by the caller.
export_tree() {
  TREE=$(mktemp -d "$WORK/src.XXXXXX")
  if git -c safe.directory="$TOP" -C "$TOP" rev-parse --git-dir >/dev/null 2>&1; then
    git -c safe.directory="$TOP" -C "$TOP" ls-files -z --cached --others --exclude-standard \
      | (cd "$TOP" && xargs -0 sh -c 'for f; do [ -e "$f" ] || [ -L "$f" ] && printf "%s\0" "$f"; done' _) \
      | tar -C "$TOP" --null -T - -cf -
  else
    tar -C "$TOP" --exclude=./.git --exclude='*.so' --exclude=__pycache__ -cf - .
  fi | tar -C "$TREE" --no-same-owner -xf -
  (cd "$TREE" && "$VENV/bin/python" setup.py --quiet build_ext --inplace >build.log 2>&1) || { cat "$TREE/build.log" >&2; die "the extension did not build"; }
  rm -rf "$TREE/build" "$TREE/build.log"
  chmod -R go+rX "$TREE"
  "$VENV/bin/python" -m compileall -q "$TREE" >/dev/null || true
}

# The unprivileged account with a range of subordinate ids, made when root runs this.
make_account() {
  id "$ACCOUNT" >/dev/null 2>&1 || { say "account: $ACCOUNT"; useradd --create-home --shell /bin/sh "$ACCOUNT"; }
  give_subids "$ACCOUNT"
}

# 65536 subordinate ids above all that are given already, unless the user has some.
give_subids() {
  local user=$1 file start
  for file in /etc/subuid /etc/subgid; do
    grep -qs -e "^$user:" -e "^$(id -u "$user"):" "$file" && continue
    start=$(awk -F: 'BEGIN { m = 100000 } { if ($2 + $3 > m) m = $2 + $3 } END { print m }' "$file" 2>/dev/null || echo 100000)
    case $file in
      */subuid) as_root usermod --add-subuids "$start-$((start + 65535))" "$user" ;;
      *) as_root usermod --add-subgids "$start-$((start + 65535))" "$user" ;;
    esac
  done
}

# Runs a command unprivileged: as the account with a runtime folder of its own when we are root, else as we are.
# The account's environment is a clean one; the names in PASS go along.
unprivileged() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  local name pass=()
  for name in CI TERM LANG PYCTL_TEST_STRICT PYCTL_TEST_TMP PYCTL_TEST_CYCLES PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_CERT SSL_CERT_FILE ${PASS:-}; do
    [ -z "${!name:-}" ] || pass+=("$name=${!name}")
  done
  local home runtime status=0
  home=$(getent passwd "$ACCOUNT" | cut -d: -f6)
  runtime=$(mktemp -d "/run/$ACCOUNT.XXXXXX")
  chown "$ACCOUNT:" "$runtime"
  local start=(setpriv --reuid "$ACCOUNT" --regid "$(id -g "$ACCOUNT")" --init-groups)
  # Under systemd in a unit whose cgroup is the account's: there limits can be put in force.  A unit takes no further
  # descriptors along.
  if [ -d /run/systemd/system ] && [ -z "${PODMAN_FDS:-}" ]; then
    start=(systemd-run --quiet --collect --pipe --wait --uid="$ACCOUNT" --property=Delegate=yes --)
  fi
  "${start[@]}" env -i -C "$home" HOME="$home" USER="$ACCOUNT" LOGNAME="$ACCOUNT" \
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin XDG_RUNTIME_DIR="$runtime" "${pass[@]}" "$@" || status=$?
  rm -rf "$runtime"
  return $status
}
