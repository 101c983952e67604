"""The boundary: words in, an exit status out; the only place where an error becomes a line on stderr.

Weight: the parser and the one verb.  Leaves by os._exit after flushing: what the interpreter does between the
last statement and its end (tearing modules down, closing the database, which would checkpoint it) takes 1 to 3 ms
and helps nobody.
"""

from __future__ import annotations

import gc
import os
import sys

from rootless import headstart
from rootless.errors import EXIT_ENGINE, Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
_OBJECTS_BEFORE_COLLECTION = 50_000


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs the command line and leaves the process with its exit status."""
    words = sys.argv[1:] if argv is None else argv
    # Loading modules makes no garbage, and looking for it takes a tenth of the time of a short command.
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    _prepare_streams()
    headstart.begin(words)
    status = _status_of(words)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = EXIT_PIPE
    except (OSError, ValueError) as error:  # stdout on a full disk, or closed
        status = status or EXIT_ENGINE
        _say(f"cannot write to stdout: {getattr(error, 'strerror', None) or error}")
    headstart.drop()
    os._exit(status)


def _prepare_streams() -> None:
    """Descriptors 0 to 2 exist, so that no file of the storage gets one of them; any text can be printed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(fd, True)  # a supervisor has stderr too, at first
    # Python has None for a stream whose descriptor was closed at its start.
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    # JSON of others (an image's labels) may hold half of a surrogate pair, which has no UTF-8.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _status_of(words: list[str]) -> int:
    try:
        return run(check_words(words))
    except Error as error:
        report(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_PIPE
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else EXIT_ENGINE * bool(leaving.code)
    except OSError as error:
        if _wants_traceback(words):
            _print_traceback()
        names = " -> ".join(os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes)))
        _say(f"{names}: {error.strerror}" if names and error.strerror else f"{error.strerror or error}")
        return EXIT_ENGINE
    except Exception as error:  # a mistake of pyctl's own
        if _wants_traceback(words):
            _print_traceback()
        told = " ".join(str(error).split())
        _say(f"internal error: {type(error).__name__}" + (f": {told}" if told else ""))
        if not _wants_traceback(words):
            _say_hint("run it again with --log-level=debug for the traceback, and report it")
        return EXIT_ENGINE


def run(words: list[str]) -> int:
    """One command line; returns its exit status.  Raises Error and whatever the verb raises."""
    from pyctl.cli import parser  # here, beside the boot of a supervisor

    if words[:1] == ["__complete"]:
        from pyctl.cli import complete

        return complete.main(words[1:])
    try:
        parsed = parser.parse(words)
    except parser.HelpAsked as asked:
        from pyctl.cli import help as help_  # typer: 40 ms, and only who reads help pays

        return help_.show(asked.path)
    except parser.VersionAsked:
        from pyctl.cli import verb_version

        return verb_version.short()
    if parsed.globals.given("config"):
        # For the other process that pulls a missing image, too.
        os.environ["DOCKER_CONFIG"] = parsed.globals.config
    module, _, function = parsed.command.run.partition(":")
    verb = getattr(__import__(module, None, None, (function,)), function)
    status: int = verb(parsed)
    return status


def check_words(words: list[str]) -> list[str]:
    """The words as text.  Raises UsageError for one that is not UTF-8: names, labels and JSON cannot hold it."""
    if sys.getfilesystemencoding() == "utf-8":
        try:
            "\0".join(words).encode()
        except UnicodeEncodeError:
            pass
        else:
            return words
    decoded = []
    for number, word in enumerate(words, 1):
        raw = os.fsencode(word)
        try:
            decoded.append(raw.decode())
        except UnicodeDecodeError:
            shown = raw.decode("utf-8", "backslashreplace")
            raise UsageError(f"argument {number} is not valid UTF-8: {shown}") from None
    return decoded


def report(error: Error) -> None:
    """The line on stderr, and the hint's."""
    _say(error.message)
    if error.hint:
        _say_hint(error.hint)


def _say(message: str) -> None:
    _write("\x1b[1;31mpyctl:\x1b[0m " if _coloured() else "pyctl: ", message)


def _say_hint(hint: str) -> None:
    _write("\x1b[1mhint:\x1b[0m " if _coloured() else "hint: ", hint)


def _write(head: str, text: str) -> None:
    # One write, so that lines of parallel commands do not mix; control characters of names that others chose
    # (a registry's answer, an image's label) must not reach the terminal.
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
    try:
        sys.stdout.flush()  # in the order in which it was said
    except (OSError, ValueError):
        pass
    try:
        sys.stderr.write(f"{head}{shown}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody is left to tell


def _coloured() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and os.isatty(2)


def _wants_traceback(words: list[str]) -> bool:
    return any(
        word in ("--log-level=debug", "--log-level=trace") or (word == "--log-level" and level in ("debug", "trace"))
        for word, level in zip(words, [*words[1:], ""], strict=True)
    )


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


if __name__ == "__main__":
    main()
