"""Sixteen floats at a time inside compiled loops.

The compiler turns plain loops into vector code only where it can prove that what is written is not what is read, which
for the short rows of attention it cannot. These few functions say what is meant; the processor's own vectors, wide or
narrow, carry it out. For use in functions that numba compiles, on contiguous float32 arrays seen as one row.
"""

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
_LANE = ir.FloatType()
_VECTOR = ir.VectorType(_LANE, LANES)


class _Vector(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("Vector16")


_vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


Operation = Callable[..., Any]
"""For compiled loops, where what writes its instructions, the first argument of its definition, is left out."""


def _operation(result: Any, *kinds: Any) -> Callable[[Operation], Operation]:
    """Make a function for compiled loops of one that writes its instructions.

    Args:
        result: kind of what it returns.
        kinds: of its arguments; None for an array, which comes as the address of its first element.
    """

    def make(emit: Operation) -> Operation:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            each = [
                cgutils.create_struct_proxy(given)(context, builder, value).data if kind is None else value
                for kind, given, value in zip(kinds, signature.args, values, strict=True)
            ]
            found = emit(builder, *each)
            return context.get_dummy_value() if result is types.void else found

        @functools.wraps(emit)  # numba goes by its name, and by how many arguments it has
        def definition(typing: Any, *given: Any) -> Any:
            taken = (own if kind is None else kind for kind, own in zip(kinds, given, strict=True))
            return result(*taken), generate

        made: Operation = intrinsic(definition)
        return made

    return make


def _address(builder: Any, array: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(array, [index]), _VECTOR.as_pointer())


def _spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, mask)


def _added(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.fadd(x, builder.fmul(y, z, flags=("contract",)), flags=("contract",))


def _greater(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def _folded(builder: Any, vector: Any, operation: Callable[[Any, Any, Any], Any]) -> Any:
    """Return one lane from sixteen: halves are joined until one is left."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        index = ir.VectorType(ir.IntType(32), lanes)
        low, high = (
            builder.shuffle_vector(vector, vector, ir.Constant(index, list(range(start, start + lanes))))
            for start in (0, lanes)
        )
        vector = operation(builder, low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@_operation(_vector, None, types.int64)
def load(builder: Any, array: Any, index: Any) -> Any:
    """Return ``array[index : index + 16]``."""
    value = builder.load(_address(builder, array, index))
    value.align = 4
    return value


@_operation(types.void, None, types.int64, _vector)
def store(builder: Any, array: Any, index: Any, vector: Any) -> Any:
    """Set ``array[index : index + 16]``."""
    builder.store(vector, _address(builder, array, index), align=4)


@_operation(_vector, types.float32)
def spread(builder: Any, scalar: Any) -> Any:
    """Return sixteen times ``scalar``."""
    return _spread(builder, scalar)


@_operation(_vector, None, types.int64)
def spread_at(builder: Any, array: Any, index: Any) -> Any:
    """Return sixteen times ``array[index]``."""
    return _spread(builder, builder.load(builder.gep(array, [index])))


@_operation(_vector)
def zero(builder: Any) -> Any:
    """Return sixteen zeros."""
    return ir.Constant(_VECTOR, [0.0] * LANES)


@_operation(_vector, _vector, _vector, _vector)
def fma(builder: Any, vector: Any, one: Any, other: Any) -> Any:
    """Return ``vector + one * other``."""
    return _added(builder, vector, one, other)


@_operation(_vector, _vector, _vector)
def plus(builder: Any, vector: Any, other: Any) -> Any:
    """Return ``vector + other``."""
    return builder.fadd(vector, other)


@_operation(_vector, _vector, _vector)
def times(builder: Any, vector: Any, other: Any) -> Any:
    """Return ``vector * other``."""
    return builder.fmul(vector, other)


@_operation(_vector, _vector, _vector)
def over(builder: Any, vector: Any, other: Any) -> Any:
    """Return ``vector / other``."""
    return builder.fdiv(vector, other)


@_operation(_vector, _vector, _vector)
def greater(builder: Any, vector: Any, other: Any) -> Any:
    """Return the greater of each pair of lanes."""
    return _greater(builder, vector, other)


@_operation(types.float32, _vector)
def total(builder: Any, vector: Any) -> Any:
    """Return the sum of the lanes."""
    return _folded(builder, vector, lambda build, x, y: build.fadd(x, y))


@_operation(types.float32, _vector)
def greatest(builder: Any, vector: Any) -> Any:
    """Return the greatest lane."""
    return _folded(builder, vector, _greater)


_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


@_operation(_vector, _vector)
def exp(builder: Any, vector: Any) -> Any:
    """Return e to the power of lanes between -80 and 88, to one unit in the last place; 0 below, e**88 above.

    The polynomial is that of expf in S. Moshier's Cephes library. Results below e**-80 would make products so small
    that the processor computes them a hundred times slower.
    """

    def constant(value: float) -> Any:
        return ir.Constant(_VECTOR, [value] * LANES)

    integers = ir.VectorType(ir.IntType(32), LANES)
    seen = builder.fcmp_ordered(">", vector, constant(-80.0))
    x = builder.select(seen, vector, constant(-80.0))
    x = builder.select(builder.fcmp_ordered("<", x, constant(88.0)), x, constant(88.0))
    # To the nearest integer, by way of one: adding and taking away a great number is "simplified" by fastmath.
    half = builder.select(builder.fcmp_ordered("<", x, constant(0.0)), constant(-0.5), constant(0.5))
    integer = builder.fptosi(_added(builder, half, x, constant(1.44269504)), integers)
    n = builder.sitofp(integer, _VECTOR)
    r = _added(builder, x, n, constant(-0.693359375))
    r = _added(builder, r, n, constant(2.12194440e-4))
    y = constant(_EXP[0])
    for coefficient in _EXP[1:]:
        y = _added(builder, constant(coefficient), y, r)
    y = _added(builder, r, builder.fmul(r, r), y)
    y = builder.fadd(y, constant(1.0))
    # 2**n, by writing n into the exponent
    power = builder.shl(integer, ir.Constant(integers, [23] * LANES))
    power = builder.add(power, ir.Constant(integers, [127 << 23] * LANES))
    return builder.select(seen, builder.fmul(y, builder.bitcast(power, _VECTOR)), constant(0.0))
