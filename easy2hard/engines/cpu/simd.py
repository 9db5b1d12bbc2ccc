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


def _operation(name: str, result: Any, *kinds: Any) -> Callable[[Operation], Operation]:
    """Make a function for compiled loops of one that writes its instructions.

    Args:
        name: of the function.
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

        emit.__name__ = emit.__qualname__ = name  # numba goes by it, and by how many arguments there are

        @functools.wraps(emit)
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


def _spread_at(builder: Any, array: Any, index: Any) -> Any:
    return _spread(builder, builder.load(builder.gep(array, [index])))


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


_binary = _vector, _vector, _vector
load = _operation("load", _vector, None, types.int64)(
    lambda builder, array, index: builder.load(_address(builder, array, index), align=4)
)
"""Return ``array[index : index + 16]``."""
store = _operation("store", types.void, None, types.int64, _vector)(
    lambda builder, array, index, vector: builder.store(vector, _address(builder, array, index), align=4)
)
"""Set ``array[index : index + 16]`` to a vector."""
spread = _operation("spread", _vector, types.float32)(_spread)
"""Return sixteen times a number."""
spread_at = _operation("spread_at", _vector, None, types.int64)(_spread_at)
"""Return sixteen times ``array[index]``."""
zero = _operation("zero", _vector)(lambda builder: ir.Constant(_VECTOR, [0.0] * LANES))
"""Return sixteen zeros."""
fma = _operation("fma", _vector, *_binary)(_added)
"""Return ``x + y * z``."""
plus = _operation("plus", *_binary)(lambda builder, x, y: builder.fadd(x, y))
"""Return ``x + y``."""
times = _operation("times", *_binary)(lambda builder, x, y: builder.fmul(x, y))
"""Return ``x * y``."""
over = _operation("over", *_binary)(lambda builder, x, y: builder.fdiv(x, y))
"""Return ``x / y``."""
greater = _operation("greater", *_binary)(_greater)
"""Return the greater of each pair of lanes."""
total = _operation("total", types.float32, _vector)(
    lambda builder, vector: _folded(builder, vector, lambda build, x, y: build.fadd(x, y))
)
"""Return the sum of the lanes."""
greatest = _operation("greatest", types.float32, _vector)(lambda builder, vector: _folded(builder, vector, _greater))
"""Return the greatest lane."""

_panel = types.UniTuple(_vector, 16)
"""Eight rows of 32 columns, two vectors a row."""


def _places(builder: Any, array: Any, index: Any, row: Any) -> list[Any]:
    """Return the addresses of a panel's vectors."""
    at = [builder.add(index, builder.mul(row, ir.Constant(index.type, r))) for r in range(8)]
    return [_address(builder, array, builder.add(each, ir.Constant(index.type, c))) for each in at for c in (0, LANES)]


@_operation("load_panel", _panel, None, types.int64, types.int64)
def load_panel(builder: Any, array: Any, index: Any, row: Any) -> Any:
    """Return the panel of ``array`` whose first row begins at ``index``; ``row`` is from one to the next."""
    return cgutils.pack_array(builder, [builder.load(each, align=4) for each in _places(builder, array, index, row)])


@_operation("store_panel", types.void, None, types.int64, types.int64, _panel)
def store_panel(builder: Any, array: Any, index: Any, row: Any, panel: Any) -> None:
    """Set what :func:`load_panel` returns."""
    for at, vector in zip(_places(builder, array, index, row), cgutils.unpack_tuple(builder, panel), strict=True):
        builder.store(vector, at, align=4)


zero_panel = _operation("zero_panel", _panel)(lambda builder: ir.Constant(ir.ArrayType(_VECTOR, 16), None))
"""Return a panel of zeros."""


@_operation("fma_panel", _panel, _panel, None, types.int64, types.int64, _vector, _vector)
def fma_panel(builder: Any, panel: Any, array: Any, index: Any, row: Any, low: Any, high: Any) -> Any:
    """Return a panel to whose row r is added ``array[index + r * row]`` times two vectors."""
    sums = cgutils.unpack_tuple(builder, panel)
    for r in range(8):
        one = _spread_at(builder, array, builder.add(index, builder.mul(row, ir.Constant(index.type, r))))
        sums[2 * r : 2 * r + 2] = (_added(builder, sums[2 * r + c], one, y) for c, y in enumerate((low, high)))
    return cgutils.pack_array(builder, sums)


_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


@_operation("exp", _vector, _vector)
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
