"""`_sqlite3`, imported without `functools`.

Weight: `_sqlite3` and `_functools` (C), 1.5 ms.  The C module asks at its initialisation for one name,
`functools.lru_cache`, to cache compiled statements; `functools` with `collections` behind it takes 4 ms of a
start-up of 40.  Where no one has imported it yet, a stand-in with the same C cache behind it is shown for the
moment of the import.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _sqlite3
    from collections.abc import Callable
    from typing import Any

__all__ = ["_sqlite3"]


def _import_light() -> None:
    import _functools  # type: ignore[import-not-found]

    cached = _functools._lru_cache_wrapper

    def lru_cache(maxsize: int | None = 128, typed: bool = False) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: cached(function, maxsize, typed, tuple)

    stand_in = type(sys)("functools")
    stand_in.lru_cache = lru_cache  # type: ignore[attr-defined]
    sys.modules["functools"] = stand_in
    try:
        import _sqlite3  # noqa: F401
    finally:
        if sys.modules.get("functools") is stand_in:
            del sys.modules["functools"]


if "functools" not in sys.modules and "_sqlite3" not in sys.modules:
    try:
        _import_light()
    except (ImportError, AttributeError):
        sys.modules.pop("_sqlite3", None)

import _sqlite3  # noqa: E402
