"""How tuples of arrays travel: as plain tuples from Python into a kernel, as addresses between building blocks.

Numba passes a tuple to a function as all the scalars in it, seven for an array: blocks that pass thirty arrays to each other
would consist mostly of that, and so would the time to compile them. `refer` writes a tuple to the stack once; its address is
passed on, and a field is read where it is needed.

In a call from Python, Numba determines the type of every NamedTuple argument anew, by name: a microsecond each, as much as a
small scan. A plain tuple costs a tenth of that. So entry points take plain tuples, and name their fields here (`named`).
"""
from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from .compat import PLAIN

if PLAIN:
    class Ref(types.Type):
        """Never used: tuples are passed by value."""

    def refer(values: Any) -> Any:
        """The NamedTuple itself."""
        return values

    def named(values: Any, kind: Any) -> Any:
        """A plain tuple as the NamedTuple `kind`."""
        return kind(*values)

    @overload(refer)
    def _refer(values):
        return lambda values: values

    @overload(named)
    def _named(values, kind):
        return lambda values, kind: kind(*values)

    def field(values: Any, name: str) -> Any:
        """values.name, where the name is a constant that the caller's code does not spell out."""
        return getattr(values, name)

    @overload(field, prefer_literal=True)
    def _field(values, name):
        index = values.fields.index(name.literal_value)
        return lambda values, name: values[index]
else:
    from .compat.references import Ref, field, named, refer

__all__ = ["Ref", "field", "named", "refer", "tuple_kind"]


def tuple_kind(t: types.Type) -> type | None:
    """The NamedTuple class of a Numba type, by value or by reference; None for other types."""
    t = t.target if isinstance(t, Ref) else t
    return t.instance_class if isinstance(t, types.BaseNamedTuple) else None
