"""What an auction asks of 64 objects at a time: their distance from a bidder plus their price
(`ops.point_lanes` explains the form).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pointlift.ops._numba.point_lanes import I64, _array, _load, _smaller, _squared, _store, _vector

__all__ = ["appraise"]


def _root(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    vector = value.type
    name = f"llvm.sqrt.v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}"
    found = builder.module.globals.get(name)
    return builder.call(
        found if found is not None else ir.Function(builder.module, ir.FunctionType(vector, [vector]), name),
        [value],
    )


@intrinsic
def _appraise(typingctx, x, y, z, price, at, px, py, pz, value, low):  # type: ignore[no-untyped-def]
    """value[at + i] = distance of point at + i from (px, py, pz) + price[at + i],
    and low[i] = min(low[i], value[at + i]).
    """
    sig = types.void(x, y, z, price, types.int64, x.dtype, x.dtype, x.dtype, value, low)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        a = signature.args
        vector = _vector(a[0])
        bases = [_array(context, builder, a[i], args[i]) for i in range(3)]
        distance = _root(builder, _squared(builder, bases, args[4], vector, list(args[5:8])))
        total = builder.fadd(
            distance, _load(builder, _array(context, builder, a[3], args[3]), args[4], vector)
        )
        _store(builder, total, _array(context, builder, a[8], args[8]), args[4])
        least, start = _array(context, builder, a[9], args[9]), ir.Constant(I64, 0)
        _store(builder, _smaller(builder, total, _load(builder, least, start, vector)), least, start)
        return context.get_dummy_value()

    return sig, codegen


# an intrinsic is called without its typing context, which type checkers cannot know
appraise: Any = _appraise
