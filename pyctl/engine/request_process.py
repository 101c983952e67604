"""What runs in a container, as whom and where: command, working directory, user, host name, labels, restart.

Weight: `rootless.values`, `.errors`; `rootless.values.loads` is C.
"""

from __future__ import annotations

from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import NAME_RULE, absolute, is_name, is_number, normal, pair, utf8
from rootless.errors import EXIT_CANNOT_INVOKE, Error, UsageError
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.request_facts import ImageChoice, Options, RequestFacts

_MAX_ID = 2**31 - 1  # what crun and runc keep ids in
_HOST_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_CONTROL_LETTERS = "abcdefghijklmnopqrstuvwxyz@[\\]^_"


def command(
    options: Options, arguments: tuple[str, ...], image: ImageChoice
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(what is executed, entry point, command).  An --entrypoint drops the image's command with its entry point."""
    config = image.config
    given = options.get("entrypoint") if options.given("entrypoint") else None
    entrypoint: tuple[str, ...] = config.entrypoint if config else ()
    cleared = False
    if given is not None:
        entrypoint = entrypoint_words(given)
        cleared = not entrypoint and given != ""
    words = tuple(utf8("argument", a) for a in arguments)
    if not words and config and (given is None or cleared):
        words = config.command
    if not entrypoint + words:
        what = f"the image {image.name} has no command" if config else "--rootfs needs a command"
        raise UsageError(what, hint="name one after it, as in: pyctl run IMAGE COMMAND")
    args = entrypoint + words
    if not args[0]:
        raise Error("the command is an empty word", exit_code=EXIT_CANNOT_INVOKE)
    return args, entrypoint, words


def entrypoint_words(text: str) -> tuple[str, ...]:
    """--entrypoint: a JSON array of words, or one word; "" for none.  `[` alone is a program's name."""
    if text.startswith("["):
        try:
            words = loads(text)
        except ValueError:
            if text.startswith(('["', "[ ")):
                raise refused("--entrypoint", text, "looks like a JSON list, but is none") from None
            return (text,)
        if not isinstance(words, list) or any(not isinstance(w, str) for w in words):
            raise refused("--entrypoint", text, "a JSON list must hold strings only")
        return tuple(utf8("--entrypoint", w) for w in words)
    return (utf8("--entrypoint", text),) if text else ()


def workdir(options: Options, image: ImageChoice) -> tuple[str, bool]:
    """The working directory, and whether it is the image's, which is made where it is missing."""
    given = options.get("workdir")
    if given:
        if not given.startswith("/"):
            raise refused("--workdir", given, "must be an absolute path")
        return _not_a_descriptor("--workdir", normal(utf8("--workdir", given))), False
    own = image.config.workdir if image.config else ""
    option = "the image's working directory"
    return _not_a_descriptor(option, normal(utf8(option, "/" + own))), bool(own)


def _not_a_descriptor(option: str, path: str) -> str:
    # A descriptor that a runtime leaks would lead out of the container this way (CVE-2024-21626).
    parts = path.split("/")
    if parts[1] == "proc" and ("fd" in parts or "cwd" in parts or "root" in parts):
        raise refused(option, path, "is another process's view of a directory, not one of the container")
    return path


def user(options: Options, image: ImageChoice, uid_count: int, gid_count: int) -> str:
    """`name`, `uid`, `name:group` …: digits are always an id.

    uid_count, gid_count: ids must be below these; 0 where the container maps its own.
    """
    given: str = options.get("user") or ""
    option = "--user" if given else "the image's user"
    text = given or (image.config.user if image.config else "")
    name, colon, group = text.partition(":")
    for part, count in ((name, uid_count), (group, gid_count)):
        if part.startswith("-") or ":" in part or any(c.isspace() or not c.isprintable() for c in part):
            raise refused(option, text, "must be USER or USER:GROUP, each a name or a number")
        if is_number(part):
            if int(part) > _MAX_ID:
                raise refused(option, text, f"ids go from 0 to {_MAX_ID}")
            if count and int(part) >= count:
                what = f"{count} ids are mapped" if count > 1 else "one id is mapped"
                which = f"uid={name}" if is_number(name) else ""
                which += f"{',' if which else ''}gid={group}" if is_number(group) else ""
                raise refused(
                    option, text, f"only {what} here", hint=f"be that user yourself: --userns=keep-id:{which}"
                )
    if colon and not group:
        raise refused(option, text, "the group after the colon is missing")
    return utf8(option, text)


def host_name(options: Options, container_id: str, network_mode: str, uts: str, facts: RequestFacts) -> str:
    """The name inside: as given, the host's own where that is shared, else the short id."""
    given: str = options.get("hostname") or ""
    if not given:
        return facts.host_name if network_mode == "host" or uts == "host" else container_id[:12]
    if uts == "host" or uts.startswith(("container:", "ns:")):
        raise refused("--hostname", given, f"cannot be set with --uts={uts}", hint="that name space has a name already")
    # sethostname(2) takes 64 bytes; a name with other characters would break the lines of /etc/hosts.
    if len(given) > 64 or set(given) - _HOST_NAME_CHARACTERS or given[0] in "-.":
        raise refused(
            "--hostname", given, "must be at most 64 letters, digits, -, _ and ., and begin with a letter or digit"
        )
    return given


def container_name(options: Options, fallback: str) -> str:
    """--name, or `fallback`."""
    given: str = options.get("name") or fallback
    if not is_name(given):
        raise refused("--name", given, NAME_RULE)
    return given


def labels(options: Options, image: ImageChoice, facts: RequestFacts) -> dict[str, str]:
    """The image's, those of --label-file, and --label, which wins."""
    found = dict(image.config.labels) if image.config else {}
    for path in options.get("label_file") or ():
        from pyctl.engine.request_env import read_lines

        found.update(
            pair(f"--label-file {path}", line, need_value=False) for line in read_lines("--label-file", path, facts.cwd)
        )
    found.update(pair("--label", word, need_value=False) for word in options.get("label") or ())
    return found


def umask(options: Options, facts: RequestFacts) -> int:
    """--umask: octal digits."""
    text: str = options.get("umask") if options.given("umask") else facts.defaults.umask
    if not 0 < len(text) <= 4 or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise refused("--umask", text, "must be octal, from 0000 to 0777")
    return int(text, 8)


def timezone(options: Options, facts: RequestFacts) -> str:
    """--tz: "", "local", or a name below the host's zoneinfo directory."""
    import os

    text: str = options.get("tz") or facts.defaults.tz
    if text in ("", "local"):
        return text
    allowed = all(c.isalnum() or c in "_+-/" for c in text) and text.isascii()
    if not allowed or text[0] in "/-" or not os.path.isfile(f"{facts.zoneinfo}/{text}"):
        raise refused(
            "--tz",
            text,
            "no such time zone",
            hint=f"names are the files in {facts.zoneinfo}, as Europe/Paris; or local",
        )
    return text


def restart_policy(options: Options, remove: bool) -> tuple[str, int]:
    """--restart: (policy, most restarts or 0)."""
    text: str = options.get("restart") or "no"
    policy, colon, count = text.partition(":")
    policy = "no" if policy == "never" else policy
    if policy not in ("no", "on-failure", "always", "unless-stopped"):
        raise refused("--restart", text, "must be no, on-failure[:N], always or unless-stopped")
    retries = 0
    if colon:
        if policy != "on-failure":
            raise refused("--restart", text, "only on-failure takes a number of restarts")
        if not is_number(count) or int(count) > 2**31 - 1:
            raise refused("--restart", text, "the number of restarts must be 0 or more")
        retries = int(count)
    if remove and policy in ("always", "unless-stopped"):
        raise refused(
            "--restart",
            text,
            "cannot be combined with --rm",
            hint="a container that restarts for ever never ends to be removed",
        )
    return policy, retries


def detach_keys(text: str) -> str:
    """--detach-keys: "" for none, or a comma separated list of a character or ctrl-CHARACTER."""
    if not text:
        return ""
    for key in text.split(","):
        plain = len(key) == 1 and key.isprintable() and key.isascii()
        if not plain and not (key.startswith("ctrl-") and len(key) == 6 and key[5].lower() in _CONTROL_LETTERS):
            raise refused("--detach-keys", text, "each key must be one character, or ctrl- and one of a-z @ [ \\ ] ^ _")
    return text


def id_file(options: Options, facts: RequestFacts) -> str:
    """--cidfile: a path in a directory that exists; an earlier file is replaced, as Podman 5 does."""
    import os

    given: str = options.get("cidfile") or ""
    if not given:
        return ""
    path = absolute(given, facts.cwd)
    if not os.path.isdir(os.path.dirname(path)):
        raise Error(f"--cidfile {given}: its directory does not exist")
    return path


def rootfs_directory(word: str, cwd: str) -> tuple[str, bool]:
    """`DIR` or `DIR:O`: (absolute path, keep it unchanged and write to an overlay)."""
    path, colon, mode = word.partition(":")
    if colon and mode != "O":
        raise refused("--rootfs", word, "must be DIR, or DIR:O to leave the directory unchanged")
    import os

    made = absolute(utf8("--rootfs", path), cwd)
    if not os.path.isdir(made):
        raise refused("--rootfs", word, f"{made} is not a directory")
    return made, bool(colon)


def groups(options: Options) -> tuple[str, ...]:
    """--group-add: names, numbers, or keep-groups alone."""
    found: tuple[str, ...] = tuple(g for g in options.get("group_add") or () if g)
    for group in found:
        if group.startswith("-") or ":" in group or any(c.isspace() or not c.isprintable() for c in group):
            raise refused("--group-add", group, "must be the name or the number of a group")
        if is_number(group) and int(group) > _MAX_ID:
            raise refused("--group-add", group, f"ids go from 0 to {_MAX_ID}")
        utf8("--group-add", group)
    if "keep-groups" in found and len(found) > 1:
        raise refused("--group-add", "keep-groups", "cannot be combined with other groups")
    return found
