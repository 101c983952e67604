"""The text of a Go template to its nodes.  Weight: `rootless.errors`.

Nodes: ("text", str) ("print", pipeline) ("if"|"with", [(pipeline, nodes)…], else nodes) ("range", pipeline, nodes, else
nodes) ("break",) ("continue",).  Sources: pkg.go.dev/text/template, pkg.go.dev/text/template/parse.
"""

from __future__ import annotations

from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    # kind, value, whether it touches the token before it
    Token = tuple[str, Any, bool]
    # ("const", value) ("func", name) ("chain", base or None for dot, names) ("var", name) ("paren", pipeline)
    Operand = tuple[Any, ...]
    # declared variables, whether they are set anew (=), commands
    Pipeline = tuple[tuple[str, ...], bool, tuple[tuple[Operand, ...], ...]]
    Node = tuple[Any, ...]

_SPACE = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSERS = ("end", "else")
_CONSTANTS = {"true": True, "false": False, "nil": None}
_MOST_DEPTH = 100


class TemplateError(UsageError):
    """The template is wrong, or asks for what the data has not."""


def fail(reason: str, hint: str = "") -> NoReturn:
    """Raises TemplateError."""
    raise TemplateError(f"template: {reason}", hint)


def parse(text: str) -> list[Node]:
    """The nodes of a whole template.  Raises TemplateError."""
    return _Parser(text).template()


# --- words -------------------------------------------------------------------------------------


def split_actions(text: str) -> list[tuple[str, Any]]:
    """("text", str) and ("action", tokens) in order, with comments and trimmed space gone."""
    parts: list[tuple[str, Any]] = []
    position = 0
    trim_next = False
    while True:
        start = text.find("{{", position)
        literal = text[position:] if start < 0 else text[position:start]
        if trim_next:
            literal = literal.lstrip(_SPACE)
        if start < 0:
            if literal:
                parts.append(("text", literal))
            return parts
        body = start + 2
        if text[body : body + 1] == "-" and text[body + 1 : body + 2] in tuple(_SPACE):
            literal = literal.rstrip(_SPACE)
            body += 2
        if literal:
            parts.append(("text", literal))
        tokens, position, trim_next = _comment(text, body) or _tokens(text, body)
        if tokens is not None:
            parts.append(("action", tokens))


def _comment(text: str, position: int) -> tuple[None, int, bool] | None:
    """The end of a comment that begins at `position`, or None where there is none."""
    while text[position : position + 1] in tuple(_SPACE):
        position += 1
    if not text.startswith("/*", position):
        return None
    end = text.find("*/", position + 2)
    if end < 0:
        fail("a comment is not closed")
    rest = text[end + 2 :]
    closing = rest.lstrip(_SPACE)
    if closing.startswith("-}}") and rest[:1] in tuple(_SPACE):
        return None, len(text) - len(closing) + 3, True
    if not closing.startswith("}}"):
        fail("a comment must end its action: {{/* … */}}")
    return None, len(text) - len(closing) + 2, False


def _tokens(text: str, position: int) -> tuple[list[Token], int, bool]:
    """Tokens up to the closing braces, where they end, and whether the text behind them is trimmed."""
    tokens: list[Token] = []
    glued = False
    size = len(text)
    while position < size:
        char = text[position]
        if char in _SPACE:
            position += 1
            glued = False
            continue
        if text.startswith("}}", position):
            return tokens, position + 2, False
        if char == "-" and not glued and text.startswith("-}}", position):
            return tokens, position + 3, True
        kind, value, end = _token(text, position)
        tokens.append((kind, value, glued))
        glued = True
        position = end
    fail("an action is not closed: }} is missing")


def _token(text: str, position: int) -> tuple[str, Any, int]:
    char = text[position]
    if char in "\"'":
        return _quoted(text, position)
    if char == "`":
        end = text.find("`", position + 1)
        if end < 0:
            fail("a raw string is not closed")
        return "const", text[position + 1 : end], end + 1
    if text.startswith(":=", position):
        return "op", ":=", position + 2
    if char in "|(),=":
        return "op", char, position + 1
    if char.isdigit() or (char in "+-." and text[position + 1 : position + 2].isdigit()):
        end = position + 1
        while end < len(text) and (
            text[end].isalnum() or text[end] in "._" or (text[end] in "+-" and text[end - 1] in "eE")
        ):
            end += 1
        return "const", _number(text[position:end]), end
    if char in (".", "$", "_") or char.isalpha():
        end = position + 1
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        word = text[position:end]
        if char == ".":
            return ("field", word[1:], end) if len(word) > 1 else ("dot", "", end)
        return ("var" if char == "$" else "word"), word, end
    fail(f"unexpected {char!r} in an action")


def _quoted(text: str, position: int) -> tuple[str, Any, int]:
    quote = text[position]
    out = []
    at = position + 1
    while True:
        if at >= len(text) or text[at] == "\n":
            fail("a string is not closed")
        char = text[at]
        if char == quote:
            break
        if char == "\\":
            char, at = _escape(text, at + 1)
        else:
            at += 1
        out.append(char)
    value = "".join(out)
    if quote == "'":
        if len(value) != 1:
            fail(f"{text[position : at + 1]} is not one character")
        return "const", ord(value), at + 1
    return "const", value, at + 1


def _escape(text: str, at: int) -> tuple[str, int]:
    """The character that the escape at `at` (behind the backslash) stands for, and where it ends."""
    letter = text[at : at + 1]
    if letter in _ESCAPES and letter:
        return _ESCAPES[letter], at + 1
    digits = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
    code = text[at + 1 : at + 1 + digits]
    if digits and len(code) == digits and all(c in "0123456789abcdefABCDEF" for c in code) and int(code, 16) < 0x110000:
        return chr(int(code, 16)), at + 1 + digits
    fail(f"unknown escape \\{letter} in a string")


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        fail(f"bad number {text}")


# --- sentences ---------------------------------------------------------------------------------


class _Parser:
    """Nodes: ("text", str) ("print", pipeline) ("if"|"with", [(pipeline, nodes)…], else nodes)
    ("range", pipeline, nodes, else nodes) ("break",) ("continue",)."""

    def __init__(self, text: str) -> None:
        self.parts = split_actions(text)
        self.at = 0
        self.depth = 0
        self.loops = 0
        self.tokens: list[Token] = []
        self.word = 0

    def template(self) -> list[Node]:
        nodes, closer = self.nodes()
        if closer:
            fail(f"{{{{{closer[0]}}}}} has nothing to close")
        return nodes

    def nodes(self) -> tuple[list[Node], list[str]]:
        """Nodes up to an `end` or `else`; the words of that (empty at the end of the text)."""
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            fail("nested too deeply")
        found: list[Node] = []
        while self.at < len(self.parts):
            kind, value = self.parts[self.at]
            self.at += 1
            if kind == "text":
                found.append(("text", value))
                continue
            self.tokens, self.word = value, 0
            keyword = value[0][1] if value and value[0][0] == "word" else ""
            if keyword in _CLOSERS:
                self.depth -= 1
                return found, self._closer(keyword)
            found.append(self.action(keyword))
        self.depth -= 1
        return found, []

    def _closer(self, keyword: str) -> list[str]:
        self.word = 1
        if keyword == "end":
            self._finish("end")
            return ["end"]
        if self.word < len(self.tokens):
            following = str(self.tokens[self.word][1])
            if following not in ("if", "with"):
                fail(f"unexpected {following!r} behind else")
            self.word += 1
            return ["else", following]
        return ["else"]

    def action(self, keyword: str) -> Node:
        if keyword in ("if", "with", "range"):
            self.word = 1
            return self.control(keyword)
        if keyword in ("break", "continue"):
            self.word = 1
            self._finish(keyword)
            if not self.loops:
                fail(f"{{{{{keyword}}}}} outside of range")
            return (keyword,)
        if keyword in ("define", "template", "block"):
            fail(f"{keyword} is not supported")
        pipeline = self.pipeline()
        self._finish("the action")
        return ("print", pipeline)

    def control(self, keyword: str) -> Node:
        if keyword == "range":
            pipeline = self.pipeline(most_variables=2)
            self._finish("range")
            self.loops += 1
            body, closer = self.nodes()
            self.loops -= 1
            return ("range", pipeline, body, self._else("range", closer))
        branches = []
        while True:
            pipeline = self.pipeline()
            self._finish(keyword)
            body, closer = self.nodes()
            branches.append((pipeline, body))
            if closer[1:] == [keyword]:
                continue
            return (keyword, branches, self._else(keyword, closer))

    def _else(self, keyword: str, closer: list[str]) -> list[Node]:
        """The nodes of a final else; [] without one."""
        if not closer:
            fail(f"{{{{{keyword}}}}} has no {{{{end}}}}")
        if closer[0] == "end":
            return []
        if len(closer) > 1:
            fail(f"unexpected {{{{else {closer[1]}}}}} in {keyword}")
        body, last = self.nodes()
        if last != ["end"]:
            fail(f"{{{{{keyword}}}}} has no {{{{end}}}}" if not last else "there is a second {{else}}")
        return body

    def _finish(self, what: str) -> None:
        if self.word < len(self.tokens):
            fail(f"unexpected {str(self.tokens[self.word][1])!r} in {what}")

    def _peek(self, ahead: int = 0) -> Token:
        at = self.word + ahead
        return self.tokens[at] if at < len(self.tokens) else ("", "", False)

    def pipeline(self, most_variables: int = 1) -> Pipeline:
        names: list[str] = []
        while len(names) < most_variables and self._peek(len(names) * 2)[0] == "var":
            ahead = len(names) * 2
            following = self._peek(ahead + 1)[1]
            names.append(self._peek(ahead)[1])
            if following in (":=", "=") and self._peek(ahead + 1)[0] == "op":
                self.word += ahead + 2
                return tuple(names), following == "=", self.commands()
            if following != ",":
                break
        return (), False, self.commands()

    def commands(self) -> tuple[tuple[Operand, ...], ...]:
        found: list[tuple[Operand, ...]] = []
        while True:
            operands: list[Operand] = []
            while self._peek()[0] not in ("", "op") or self._peek()[1] == "(":
                operands.append(self.operand())
            if not operands:
                fail("a value is missing")
            if found and operands[0][0] == "const":
                fail("a value that is no function stands behind |")
            found.append(tuple(operands))
            if self._peek()[:2] != ("op", "|"):
                return tuple(found)
            self.word += 1

    def operand(self) -> Operand:
        kind, value, _glued = self._peek()
        self.word += 1
        base: Operand | None
        if kind == "op":
            self.depth += 1
            if self.depth > _MOST_DEPTH:
                fail("nested too deeply")
            base = ("paren", self.pipeline())
            self.depth -= 1
            if self._peek()[:2] != ("op", ")"):
                fail("a parenthesis is not closed")
            self.word += 1
        elif kind == "const":
            base = ("const", value)
        elif kind == "var":
            base = ("var", value)
        elif kind == "word":
            base = ("const", _CONSTANTS[value]) if value in _CONSTANTS else ("func", value)
        else:
            base = None
        names = [value] if kind == "field" else []
        while self._peek()[0] == "field" and self._peek()[2]:
            names.append(self._peek()[1])
            self.word += 1
        if names and base is not None and base[0] in ("const", "func"):
            fail(f"unexpected .{names[0]} behind {value!r}")
        return ("chain", base, tuple(names)) if base is None or names else base
