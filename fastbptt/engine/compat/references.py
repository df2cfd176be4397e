"""Tuples by their address: the type `Ref`, and what reads fields through it.

Numba passes a tuple to a function as all the scalars in it. An address takes memory on the stack, which lasts as long as
the call, and blocks that do not count references. Done without it: tuples are passed by value.
"""
from __future__ import annotations

import operator
import zlib
from typing import Any

from llvmlite import ir
from numba import LoweringError, NumbaTypeError, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_builtin, lower_getattr_generic, models, register_model, type_callable

from ..vectors import I32, I64
from . import pointers


class Ref(types.Type):
    """Numba type of the address of a NamedTuple, with its fields; a field that is a NamedTuple is a `Ref` again."""

    def __init__(self, target: types.BaseNamedTuple):
        self.target = target
        # The whole name of the target, which has the types of all arrays, would be written into the IR at every call.
        super().__init__(f"Ref({target.instance_class.__name__}, {zlib.crc32(str(target).encode()):08x})")

    @property
    def key(self) -> Any:
        """What tells this type from others."""
        return self.target


@register_model(Ref)
class _RefModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Ref):
        super().__init__(dmm, fe_type, pointers.pointer_to(dmm.lookup(fe_type.target).get_value_type()))


@intrinsic
def refer(ctx, values):
    """The address of a NamedTuple that is written to the stack of the block.

    Only for blocks that do not count references: their callers hold the arrays at least as long as the address is of use.
    """
    if not isinstance(values, types.BaseNamedTuple):
        raise NumbaTypeError(f"values: expected a NamedTuple, got {values}")

    def codegen(cx, b, sig, args):
        if cx.enable_nrt:
            raise LoweringError("refer: expected a block that does not count references; leave out allocates=True")
        return written(b, args[0])
    return Ref(values)(values), codegen


@intrinsic
def named(ctx, values, kind):
    """The address of a plain tuple as that of the NamedTuple `kind`; of an argument of an entry point, which Python holds."""
    result = Ref(types.BaseTuple.from_types(values.types, kind.instance_class))
    return result(values, kind), lambda cx, b, sig, args: written(b, args[0])


def written(b: ir.IRBuilder, values: ir.Value) -> ir.Value:
    """IR of the address of what is written to the stack; allocated on entry, so that a loop does not allocate again and again."""
    with b.goto_entry_block():
        place = b.alloca(values.type)
    b.store(values, place)
    return place


def _read(cx: Any, b: ir.IRBuilder, ref: Ref, place: ir.Value, index: ir.Value, t: types.Type) -> ir.Value:
    """A field: where it is a NamedTuple its address, else its value."""
    field = pointers.gep(b, place, [I32(0), index], cx.get_value_type(ref.target), inbounds=True)
    if isinstance(t, types.BaseNamedTuple):
        return field
    return impl_ret_borrowed(cx, b, t, pointers.load(b, field, cx.get_value_type(t)))


def _seen(t: types.Type) -> types.Type:
    return Ref(t) if isinstance(t, types.BaseNamedTuple) else t


@intrinsic(prefer_literal=True)
def field(ctx, values, name):
    """values.name, where the name is a constant that the caller's code does not spell out; of a tuple or its address."""
    kind = values.target if isinstance(values, Ref) else values
    index = kind.fields.index(name.literal_value)
    result = _seen(kind.types[index]) if isinstance(values, Ref) else kind.types[index]

    def codegen(cx, b, sig, args):
        if isinstance(values, Ref):
            return _read(cx, b, values, args[0], I32(index), kind.types[index])
        return impl_ret_borrowed(cx, b, result, b.extract_value(args[0], index))
    return result(values, name), codegen


@infer_getattr
class _RefFields(AttributeTemplate):
    key = Ref

    def generic_resolve(self, ref: Ref, name: str) -> types.Type | None:
        fields = ref.target.fields
        return _seen(ref.target.types[fields.index(name)]) if name in fields else None


@lower_getattr_generic(Ref)
def _get_field(cx: Any, b: ir.IRBuilder, ref: Ref, place: ir.Value, name: str) -> ir.Value:
    index = ref.target.fields.index(name)
    return _read(cx, b, ref, place, I32(index), ref.target.types[index])


@type_callable(operator.getitem)
def _type_item(ctx):
    def item(ref, index):
        """Fields of one type may be indexed."""
        same = isinstance(ref, Ref) and isinstance(ref.target, types.NamedUniTuple)
        return _seen(ref.target.dtype) if same and isinstance(index, types.Integer) else None
    return item


@lower_builtin(operator.getitem, Ref, types.Integer)
def _get_item(cx: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    ref, index = sig.args
    return _read(cx, b, ref, args[0], cx.cast(b, args[1], index, types.intp), ref.target.dtype)


@type_callable(len)
def _type_len(ctx):
    return lambda ref: types.intp if isinstance(ref, Ref) else None


@lower_builtin(len, Ref)
def _get_len(cx: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    return I64(len(sig.args[0].target))
