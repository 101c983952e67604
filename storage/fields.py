"""Typed reading of JSON objects that others wrote: each wrong type is one clear error that names the field.

Weight: `rootless.values`, `rootless.errors`.  `null` counts as absent, as Go's decoder (which wrote most
of what is read here) takes it.  Strings with NUL or half a surrogate pair are refused: neither can
become a path, an argument or a UTF-8 file.
"""

from __future__ import annotations

from rootless.errors import Error
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class FieldError(Error):
    """A document has a field of a wrong type, or is no JSON object."""


def parse_object(raw: bytes, what: str, limit: int) -> dict[str, Any]:
    """The JSON object in `raw`, at most `limit` bytes long; FieldError naming `what` otherwise."""
    if len(raw) > limit:
        raise FieldError(f"{what} is larger than {limit} bytes")
    try:
        tree = loads(raw)
    except ValueError as error:  # UnicodeDecodeError, JSONDecodeError and over-long numbers are ValueErrors
        raise FieldError(f"{what} is not JSON: {error}") from error
    if type(tree) is not dict:
        raise FieldError(f"{what} is not a JSON object")
    return tree


def text(tree: dict[str, Any], key: str, what: str) -> str:
    """A string, "" where absent."""
    value = tree.get(key)
    return "" if value is None else _checked(value, f"{what}: {key}")


def texts(tree: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    """A list of strings, () where absent."""
    return tuple(_checked(item, f"{what}: {key}") for item in objects(tree, key, what))


def whole(tree: dict[str, Any], key: str, what: str) -> int:
    """An integer of 64 bits, 0 where absent."""
    value = tree.get(key)
    if value is None:
        return 0
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise FieldError(f"{what}: {key} is not a whole number")
    return value


def flag(tree: dict[str, Any], key: str, what: str) -> bool:
    value = tree.get(key)
    if value is None:
        return False
    if type(value) is not bool:
        raise FieldError(f"{what}: {key} is neither true nor false")
    return value


def table(tree: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    """An object, {} where absent; its keys are checked as strings are."""
    value = tree.get(key)
    if value is None:
        return {}
    if type(value) is not dict:
        raise FieldError(f"{what}: {key} is not an object")
    for name in value:
        _checked(name, f"{what}: {key}")
    return value


def text_table(tree: dict[str, Any], key: str, what: str) -> dict[str, str]:
    """An object of strings, {} where absent."""
    return {name: _checked(value, f"{what}: {key}: {name}") for name, value in table(tree, key, what).items()}


def objects(tree: dict[str, Any], key: str, what: str) -> list[Any]:
    """A list, [] where absent."""
    value = tree.get(key)
    if value is None:
        return []
    if type(value) is not list:
        raise FieldError(f"{what}: {key} is not a list")
    return value


def tables(tree: dict[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """A list of objects, [] where absent."""
    value = objects(tree, key, what)
    if any(type(item) is not dict for item in value):
        raise FieldError(f"{what}: {key} is not a list of objects")
    return value


def _checked(value: object, what: str) -> str:
    if type(value) is not str:
        raise FieldError(f"{what} is not a string")
    if "\0" in value:
        raise FieldError(f"{what} contains a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldError(f"{what} is not valid Unicode") from None
    return value
