"""Frozen records that are made by the hundred thousand."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TypeVar

__all__ = ["quick"]

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Gives a frozen, slotted dataclass an ``__init__`` that assigns plainly.

    dataclasses goes through ``object.__setattr__`` by name for each field. Here the new
    object is of a class with the same slots that is not frozen, for as long as they are
    filled (measured: 1.2 against 0.36 microseconds for 11 fields).
    """
    draft = type(cls.__name__, (), {"__slots__": cls.__dict__["__slots__"]})
    scope: dict[str, object] = {
        "_MISSING": MISSING,
        "_draft": draft,
        "_done": cls,
        "_turn": object.__dict__["__class__"].__set__,
    }
    parameters: list[str] = []
    body: list[str] = ["    _turn(self, _draft)"]
    for field in fields(cls):  # type: ignore[arg-type]  # only dataclasses are given
        name = field.name
        if field.default is not MISSING:
            scope[f"_default_{name}"] = field.default
            parameters.append(f"{name}=_default_{name}")
        elif field.default_factory is not MISSING:
            scope[f"_make_{name}"] = field.default_factory
            parameters.append(f"{name}=_MISSING")
            body.append(f"    if {name} is _MISSING: {name} = _make_{name}()")
        else:
            parameters.append(name)
        body.append(f"    self.{name} = {name}")
    body.append("    self.__class__ = _done")
    source = f"def __init__(self, {', '.join(parameters)}):\n" + "\n".join(body)
    exec(source, scope)
    made = scope["__init__"]
    made.__annotations__ = cls.__init__.__annotations__
    made.__qualname__ = f"{cls.__name__}.__init__"  # type: ignore[attr-defined]  # a function
    cls.__init__ = made  # type: ignore[assignment]  # that is the point
    return cls
