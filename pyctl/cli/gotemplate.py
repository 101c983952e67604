"""Go's text/template, as far as `--format` needs it: fields, pipelines, variables, if, range, with, comments, trimming.

Weight: `pyctl.cli.goparse`; `pyctl.cli.gofuncs` when a template is run.

Data is plain: str, int, float, bool, None, list or tuple, dict.  A `dict` is a Go struct: a field that it has not is
an error; a `Map` is a Go map: a missing key prints `<no value>`.  A value that is callable is a method: it is
called with the arguments that follow it, when it is reached.  Source: pkg.go.dev/text/template.
"""

from __future__ import annotations

from pyctl.cli.goparse import TemplateError, fail, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyctl.cli.goparse import Node, Operand, Pipeline


class Map(dict):  # type: ignore[type-arg]
    """A Go map: keys are data, so a missing one is no mistake."""


class _Missing:
    """What a Map gives for a key that it has not."""

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


class _Break(Exception):  # noqa: N818 - control flow
    pass


class _Continue(Exception):  # noqa: N818 - control flow
    pass


# --- running it --------------------------------------------------------------------------------


class _Run:
    """One execution: the output so far and the variables in sight."""

    def __init__(self, data: Any, aliases: dict[str, str] | None) -> None:
        from pyctl.cli import gofuncs  # only a command line with a template needs them

        self.functions = gofuncs.FUNCTIONS
        self.text = gofuncs.text
        self.true = gofuncs.truth
        self.aliases = aliases
        self.out: list[str] = []
        self.variables: list[tuple[str, Any]] = [("$", data)]

    def nodes(self, nodes: list[Node], dot: Any) -> None:
        depth = len(self.variables)
        for node in nodes:
            kind = node[0]
            if kind == "text":
                self.out.append(node[1])
            elif kind == "print":
                value = self.pipeline(node[1], dot)
                if not node[1][0]:
                    self.out.append(self.text(value))
            elif kind == "range":
                self.range(node, dot)
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                self.branches(node, dot)
        del self.variables[depth:]

    def branches(self, node: Node, dot: Any) -> None:
        depth = len(self.variables)
        for pipeline, body in node[1]:
            value = self.pipeline(pipeline, dot)
            if self.true(value):
                self.nodes(body, value if node[0] == "with" else dot)
                break
        else:
            self.nodes(node[2], dot)
        del self.variables[depth:]

    def range(self, node: Node, dot: Any) -> None:
        (names, assign, commands), body, otherwise = node[1:]
        value = self.commands(commands, dot)
        pairs: list[tuple[Any, Any]]
        if isinstance(value, dict):
            pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif value is None or value is MISSING:
            pairs = []
        elif hasattr(value, "go_field"):
            pairs = [(0, value)]
        else:
            fail(f"range cannot go over {self.text(value)}")
        depth = len(self.variables)
        for key, element in pairs:
            values = (element,) if len(names) == 1 else (key, element)
            for name, held in zip(names, values, strict=False):
                self.assign(name, held, assign)
            try:
                self.nodes(body, element)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del self.variables[depth:]
        if not pairs:
            self.nodes(otherwise, dot)

    def assign(self, name: str, value: Any, existing: bool) -> None:
        if not existing:
            self.variables.append((name, value))
            return
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        fail(f"undefined variable {name}")

    def pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        names, assign, commands = pipeline
        value = self.commands(commands, dot)
        for name in names:
            self.assign(name, value, assign)
        return value

    def commands(self, commands: tuple[tuple[Operand, ...], ...], dot: Any) -> Any:
        final: tuple[Any, ...] = ()
        for command in commands:
            final = (self.command(command, dot, final),)
        return final[0]

    def command(self, command: tuple[Operand, ...], dot: Any, final: tuple[Any, ...]) -> Any:
        first = command[0]
        if first[0] == "func":
            return self.call(first[1], command[1:], dot, final)
        takes_arguments = len(command) > 1 or bool(final)
        if not takes_arguments:
            return self.operand(first, dot)
        if first[0] != "chain" or not first[2]:
            fail(f"cannot give arguments to {_shown(first)}")
        holder = self.operand(("chain", first[1], first[2][:-1]), dot) if first[2][:-1] or first[1] else dot
        arguments = [self.operand(operand, dot) for operand in command[1:]]
        return self.method(self.field(holder, first[2][-1]), first[2][-1], [*arguments, *final])

    def operand(self, operand: Operand, dot: Any) -> Any:
        kind = operand[0]
        if kind == "const":
            return operand[1]
        if kind == "var":
            for name, value in reversed(self.variables):
                if name == operand[1]:
                    return value
            fail(f"undefined variable {operand[1]}")
        if kind == "paren":
            return self.pipeline(operand[1], dot)
        if kind == "func":
            return self.call(operand[1], (), dot, ())
        value = dot if operand[1] is None else self.operand(operand[1], dot)
        for name in operand[2]:
            value = self.field(value, name)
            if callable(value):
                value = self.method(value, name, [])
        return value

    def field(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            if name in value:
                return value[name]
            if isinstance(value, Map):
                return MISSING
            if self.aliases is not None:
                wanted = (name.lower(), self.aliases.get(name, "").lower())
                for key in value:
                    if key.lower() in wanted:
                        return value[key]
            near = [key for key in value if key.lower() == name.lower()]
            shown = ", ".join(sorted(key for key in value if not key.startswith("_")))
            fail(f"there is no field .{name}", f"did you mean .{near[0]}?" if near else f"fields: {shown}")
        if hasattr(value, "go_field"):
            return value.go_field(name)
        if value is None or value is MISSING:
            fail(f"no field .{name} in an empty value")
        raise TemplateError(f"template: no field .{name} in {self.text(value)}")

    def method(self, function: Any, name: str, arguments: list[Any]) -> Any:
        if not callable(function):
            fail(f".{name} takes no arguments")
        try:
            return function(*arguments)
        except TypeError as error:
            raise TemplateError(f"template: wrong arguments for .{name}") from error

    def call(self, name: str, operands: tuple[Operand, ...], dot: Any, final: tuple[Any, ...]) -> Any:
        if name in ("and", "or"):
            return self.short_circuit(name, operands, dot, final)
        if name not in self.functions:
            fail(f"there is no function {name}", "functions: and, or, " + ", ".join(sorted(self.functions)))
        function: Callable[..., Any]
        function, least, most = self.functions[name]
        count = len(operands) + len(final)
        if count < least or 0 <= most < count:
            wanted = f"{least}" if least == most else f"{least} or more" if most < 0 else f"{least} to {most}"
            fail(f"{name} takes {wanted} arguments, not {count}")
        return function(*(self.operand(operand, dot) for operand in operands), *final)

    def short_circuit(self, name: str, operands: tuple[Operand, ...], dot: Any, final: tuple[Any, ...]) -> Any:
        value: Any = MISSING
        if not operands and not final:
            fail(f"{name} takes 1 or more arguments, not 0")
        for operand in operands:
            value = self.operand(operand, dot)
            if self.true(value) == (name == "or"):
                return value
        return final[0] if final else value


def _shown(operand: Operand) -> str:
    if operand[0] == "chain":
        return "." + ".".join(operand[2])
    return repr(operand[1]) if operand[0] == "const" else str(operand[1] if operand[0] == "var" else "(…)")


class Template:
    """A template that was understood."""

    def __init__(self, text: str) -> None:
        """Raises TemplateError."""
        self.nodes = parse(text)

    def render(self, data: Any, aliases: dict[str, str] | None = None) -> str:
        """The text for `data`.  Raises TemplateError.

        aliases: other names of fields; where given, a name is found in another case too (JSON's keys and Go's
        fields differ: Id is .ID, CpuShares .CPUShares).
        """
        run = _Run(data, aliases)
        try:
            run.nodes(self.nodes, data)
        except RecursionError:
            raise TemplateError("template: nested too deeply") from None
        return "".join(run.out)
