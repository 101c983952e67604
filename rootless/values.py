"""Immutable values and their JSON, for everything that crosses a module or process border.

Weight: `_json` and `_thread` (C) only.  `dataclasses`, `typing`, `enum`, `json` (through `re`) cost 7 to 14 ms each at
start-up, more than half of bare Python itself; a `Value` class costs 20 µs to define.

A `Value` subclass declares its fields by annotation, with defaults where there are any:

    class PortMapping(Value):
        container_port: int
        host_port: int = 0

It gets a keyword-only constructor, equality, hash, repr, `replace()`, and a self-describing JSON form
`{"@": "PortMapping", "container_port": 80}` (fields equal to their defaults are left out), from which `decode()`
makes the value again.  Defaults must be immutable; sequences are tuples; mappings are plain dicts of
strings by convention never mutated after construction.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_kwargs):
        return lambda cls: cls


_REQUIRED = object()
_registry: dict[str, type[Value]] = {}


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _ValueMeta(type):
    """Turns annotations into slots; defaults move from the class body to `_defaults_`."""

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _ValueMeta:
        fields: dict[str, Any] = {}
        for base in bases:
            fields.update(getattr(base, "_defaults_", {}))
        own = [f for f in body.get("__annotations__", {}) if not f.startswith("_")]
        for field in own:
            fields[field] = body.pop(field, _REQUIRED)
        body["__slots__"] = tuple(own)
        body["_defaults_"] = fields
        cls = super().__new__(mcs, name, bases, body)
        _registry[name] = cls  # type: ignore[assignment]
        return cls


class Value(metaclass=_ValueMeta):
    """Base of all immutable values; see the module's docstring."""

    _defaults_: ClassVar[dict[str, Any]]

    def __init__(self, **fields: Any) -> None:
        put = object.__setattr__
        for name, default in self._defaults_.items():
            value = fields.pop(name, default)
            if value is _REQUIRED:
                raise TypeError(f"{type(self).__name__}: {name} is missing")
            put(self, name, value)
        if fields:
            raise TypeError(f"{type(self).__name__}: no field {', '.join(fields)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, f) == getattr(other, f) for f in self._defaults_)

    def __hash__(self) -> int:
        return hash((type(self).__name__, *(getattr(self, f) for f in self._defaults_)))

    def __repr__(self) -> str:
        shown = (f"{f}={getattr(self, f)!r}" for f, d in self._defaults_.items() if getattr(self, f) != d)
        return f"{type(self).__name__}({', '.join(shown)})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**{f: getattr(self, f) for f in self._defaults_}, **changes})


def _encode_value(value: object) -> object:
    if isinstance(value, Value):
        out: dict[str, object] = {"@": type(value).__name__}
        for field, default in value._defaults_.items():
            held = getattr(value, field)
            if held is not default and held != default:
                # A mapping's keys may be anybody's (a label of an image): as pairs, none can pass for a type's name.
                out[field] = list(held.items()) if type(held) is dict else held
        return out
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _decode_value(tree: dict[str, Any]) -> Any:
    name = tree.pop("@", None)
    if name is None:
        return tree
    cls = _registry.get(name)
    if cls is None:
        raise ValueError(f"unknown value type {name!r} (is its module imported?)")
    known = cls._defaults_
    # A field that a newer version wrote is dropped, so that an older one can still read its state.
    return cls(
        **{
            f: {k: _tuples(v) for k, v in held} if type(known[f]) is dict else _tuples(held)
            for f, held in tree.items()
            if f in known
        }
    )


def _tuples(item: Any) -> Any:
    return tuple(_tuples(i) for i in item) if type(item) is list else item


class _ScannerContext:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def _machinery() -> tuple[Any, Any, Any]:
    # json itself is two C functions behind a wrapper that imports `re` (5 of its 7 ms).
    # Private, so the public module stands behind it.
    try:
        import _json

        encode = _json.make_encoder(
            {}, _encode_value, _json.encode_basestring_ascii, None, ":", ",", False, False, False
        )
        plain_context: Any = _ScannerContext()
        value_context: Any = _ScannerContext()
        value_context.object_hook = _decode_value
        return encode, _json.make_scanner(plain_context), _json.make_scanner(value_context)
    except (ImportError, TypeError, AttributeError):
        import json

        encoder = json.JSONEncoder(default=_encode_value, separators=(",", ":"))
        plain: Any = json.JSONDecoder()
        hooked: Any = json.JSONDecoder(object_hook=_decode_value)
        return (lambda v, _i: (encoder.encode(v),)), plain.scan_once, hooked.scan_once


_encode, _scan, _scan_values = _machinery()


def dumps(value: object) -> str:
    """Compact JSON of plain data and `Value`s (ASCII only, so any file encoding holds it)."""
    return "".join(_encode(value, 0))


def _load(scan: Any, text: str | bytes) -> Any:
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"not JSON at character {stop.value}") from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    except SystemError:
        # Until Python 3.12, _json raises json.JSONDecodeError only where json is loaded, and nothing where it is not.
        import json

        json.loads(text)
        raise ValueError("not JSON") from None
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"data after the JSON value at character {end}")
    return value


def loads(text: str | bytes) -> Any:
    """Plain JSON: dicts, lists, str, int, float, bool, None.  Raises ValueError."""
    return _load(_scan, text)


def decode(text: str | bytes) -> Any:
    """JSON written by `dumps` from `Value`s, as those values again.  Raises ValueError."""
    return _load(_scan_values, text)
