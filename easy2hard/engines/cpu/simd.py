"""Sixteen floats at a time inside compiled loops.

The compiler turns plain loops into vector code only where it can prove that what is written is not what is read, which
for the short rows of attention it cannot. These few functions say what is meant; the processor's own vectors, wide or
narrow, carry it out. For use in functions that numba compiles, on contiguous float32 arrays seen as one row.
"""

from collections.abc import Callable
from typing import Any, cast

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


Emit = Callable[[Any, Any, Any, Any], Any]


def _operation(definition: Callable[..., tuple[Any, Emit]]) -> Callable[..., Any]:
    """Make a function for compiled loops; in them it is called without its first argument."""
    return cast(Callable[..., Any], intrinsic(definition))


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, mask)


@_operation
def load(typing: Any, array: Any, index: Any) -> tuple[Any, Emit]:
    """Return ``array[index : index + 16]``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        value = builder.load(address)
        value.align = 4
        return value

    return _vector(array, types.int64), emit


@_operation
def store(typing: Any, array: Any, index: Any, vector: Any) -> tuple[Any, Emit]:
    """Set ``array[index : index + 16]``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, _vector), emit


@_operation
def spread(typing: Any, scalar: Any) -> tuple[Any, Emit]:
    """Return sixteen times ``scalar``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return _vector(types.float32), emit


@_operation
def spread_at(typing: Any, array: Any, index: Any) -> tuple[Any, Emit]:
    """Return sixteen times ``array[index]``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        return _spread(builder, builder.load(builder.gep(data, [arguments[1]])))

    return _vector(array, types.int64), emit


@_operation
def fma(typing: Any, vector: Any, one: Any, other: Any) -> tuple[Any, Emit]:
    """Return ``vector + one * other``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _added(builder, *arguments)

    return _vector(_vector, _vector, _vector), emit


def _added(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.fadd(x, builder.fmul(y, z, flags=("contract",)), flags=("contract",))


def _greater(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


@_operation
def plus(typing: Any, vector: Any, other: Any) -> tuple[Any, Emit]:
    """Return ``vector + other``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return _vector(_vector, _vector), emit


@_operation
def times(typing: Any, vector: Any, other: Any) -> tuple[Any, Emit]:
    """Return ``vector * other``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return _vector(_vector, _vector), emit


@_operation
def over(typing: Any, vector: Any, other: Any) -> tuple[Any, Emit]:
    """Return ``vector / other``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return _vector(_vector, _vector), emit


@_operation
def greater(typing: Any, vector: Any, other: Any) -> tuple[Any, Emit]:
    """Return the greater of each pair of lanes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _greater(builder, *arguments)

    return _vector(_vector, _vector), emit


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


@_operation
def total(typing: Any, vector: Any) -> tuple[Any, Emit]:
    """Return the sum of the lanes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], lambda build, x, y: build.fadd(x, y))

    return types.float32(_vector), emit


@_operation
def greatest(typing: Any, vector: Any) -> tuple[Any, Emit]:
    """Return the greatest lane."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], _greater)

    return types.float32(_vector), emit


_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


@_operation
def exp(typing: Any, vector: Any) -> tuple[Any, Emit]:
    """Return e to the power of lanes between -80 and 88, to one unit in the last place; 0 below, e**88 above.

    The polynomial is that of expf in S. Moshier's Cephes library. Results below e**-80 would make products so small
    that the processor computes them a hundred times slower.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def constant(value: float) -> Any:
            return ir.Constant(_VECTOR, [value] * LANES)

        integers = ir.VectorType(ir.IntType(32), LANES)
        seen = builder.fcmp_ordered(">", arguments[0], constant(-80.0))
        x = builder.select(seen, arguments[0], constant(-80.0))
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

    return _vector(_vector), emit


@_operation
def zero(typing: Any) -> tuple[Any, Emit]:
    """Return sixteen zeros."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_VECTOR, [0.0] * LANES)

    return _vector(), emit
