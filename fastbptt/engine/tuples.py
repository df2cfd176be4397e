"""Plain tuples as NamedTuples.

Numba works out the type of a NamedTuple argument anew in every call, by name: a microsecond each, as much as a small scan.
A plain tuple costs a tenth of that. So entry points take plain tuples, and name their fields here, for nothing.
"""
from __future__ import annotations

from numba import types
from numba.extending import intrinsic


@intrinsic
def named(ctx, values, kind):
    """The tuple `values` as the NamedTuple `kind`."""
    result = types.BaseTuple.from_types(values.types, kind.instance_class)

    def codegen(cx, b, sig, args):
        items = [b.extract_value(args[0], i) for i in range(len(values))]
        for item_type, item in zip(values.types, items, strict=True):
            cx.nrt.incref(b, item_type, item)
        return cx.make_tuple(b, result, items)
    return result(values, kind), codegen
