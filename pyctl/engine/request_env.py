"""The environment of a container: what the image, the site, files and the command line put together.

Weight: `rootless.fds` where a file is read.  Rules of podman-run(1), "Environment": later sources win, in the
order image, host (--env-host), proxies, files, --env; nothing of the host gets in unasked but the proxies.
"""

from __future__ import annotations

from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import absolute, utf8
from rootless.errors import UsageError, os_error_text
from rootless.headstart import SERVICE_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.request_facts import Options, RequestFacts

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
_OWN_PREFIX = "_PYCTL_"  # the engine's own variables
_MAX_FILE_BYTES = 16 << 20


def environment(options: Options, image_env: tuple[str, ...], facts: RequestFacts, tty: bool) -> dict[str, str]:
    """Name → value, in order.  HOME and HOSTNAME are added where the user and the host name are known."""
    env: dict[str, str] = {"PATH": DEFAULT_PATH}
    for word in facts.defaults.env:
        put(env, word, facts, "containers.conf: env")
    # systemd-detect-virt(1) and many scripts know a container by this variable, and this value of it.
    env["container"] = "podman"
    if tty:
        env["TERM"] = "xterm"
    for word in image_env:
        name, equals, value = word.partition("=")
        if name and equals:
            env[utf8("the image's environment", name)] = utf8("the image's environment", value)
    if options.get("unsetenv_all"):
        env.clear()
    for name in options.get("unsetenv") or ():
        env.pop(name, None)
    if options.get("env_host") or facts.defaults.env_host:
        for name, value in facts.environ.items():
            if not name.startswith(_OWN_PREFIX) and name not in SERVICE_VARIABLES:
                env[name] = utf8("--env-host", value)
    wanted_proxy = options.get("http_proxy") if options.given("http_proxy") else facts.defaults.http_proxy
    if wanted_proxy:
        for name in (*_PROXIES, *(p.upper() for p in _PROXIES)):
            if name in facts.environ:
                env[name] = utf8("--http-proxy", facts.environ[name])
    for path in options.get("env_file") or ():
        for line in read_lines("--env-file", path, facts.cwd):
            put(env, line, facts, f"--env-file {path}")
    for word in options.get("env") or ():
        put(env, word, facts, "--env")
    for word in options.get("env_merge") or ():
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise refused("--env-merge", word, "must be NAME=VALUE, where ${OTHER} stands for another variable's value")
        env[utf8("--env-merge", name)] = _expand(utf8("--env-merge", value), env)
    return env


def put(env: dict[str, str], word: str, facts: RequestFacts, option: str) -> None:
    """`A=b`; `A` takes the host's value if it has one; `A*` takes all that begin so."""
    name, equals, value = word.partition("=")
    if equals:
        if not name:
            raise refused(option, word, "a variable needs a name")
        env[utf8(option, name)] = utf8(option, value)
    elif name.endswith("*"):
        for other, held in facts.environ.items():
            if other.startswith(name[:-1]) and not other.startswith(_OWN_PREFIX):
                env[other] = utf8(option, held)
    elif name in facts.environ:
        env[name] = utf8(option, facts.environ[name])


def read_lines(option: str, path: str, cwd: str) -> list[str]:
    """The lines of a file of settings, without blank ones and comments (#), which stand alone on a line."""
    from rootless.fds import read_file

    try:
        text = read_file(absolute(path, cwd), limit=_MAX_FILE_BYTES).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{option} {os_error_text(error, path)}") from error
    lines = (line.lstrip() for line in text.replace("\r\n", "\n").split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def _expand(text: str, env: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` by their values, "" for unknown ones; `$$` stays a dollar sign."""
    out: list[str] = []
    at = 0
    while True:
        found = text.find("$", at)
        if found < 0:
            return "".join(out) + text[at:]
        out.append(text[at:found])
        rest = text[found + 1 :]
        if rest.startswith("{") and "}" in rest:
            name, _, _tail = rest[1:].partition("}")
            at = found + len(name) + 3
        else:
            name = ""
            for char in rest:
                if not (char.isascii() and (char.isalnum() or char == "_")):
                    break
                name += char
            at = found + 1 + len(name)
            if not name:
                out.append("$")
                at += 1 if rest.startswith("$") else 0
                continue
        out.append(env.get(name, ""))
