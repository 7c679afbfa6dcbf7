"""How many floating-point operations a program does, counted exactly from its jaxpr.

XLA's cost analysis counts the body of a loop once and a LAPACK call not at all. Here a scan counts its body as often as it runs;
products of matrices count 2 m n k, LAPACK calls their textbook counts (Golub, Van Loan 2013); a while loop, of which one does not know
how often it runs, counts ``passes`` times, a conditional as its dearest branch. Other operations count one per number that
they yield: "elementwise".
"""

import collections
import math

import jax

# They move numbers and compute none.
# They move numbers and compute none.
_MOVES = """reshape transpose broadcast_in_dim squeeze slice dynamic_slice dynamic_update_slice concatenate gather scatter iota copy copy_p
stop_gradient split pad rev convert_element_type"""
_FREE = frozenset(_MOVES.split())


def count(function, *args, once=False, passes=0):
    """{"products": ..., "lapack": ..., "elementwise": ...} of one call; ``once`` counts loop bodies once, as XLA does."""
    totals = collections.Counter(products=0, lapack=0, elementwise=0)
    _walk(jax.make_jaxpr(function)(*args).jaxpr, 1, totals, once, passes)
    return dict(totals)


def _walk(jaxpr, times, totals, once, passes):
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "scan":
            _walk(equation.params["jaxpr"].jaxpr, times * min(equation.params["length"], 1 if once else math.inf), totals, once, passes)
        elif name == "while":
            _walk(equation.params["body_jaxpr"].jaxpr, times * (1 if once else passes), totals, once, passes)
        elif name == "cond":
            branches = [collections.Counter() for _ in equation.params["branches"]]
            for branch, found in zip(equation.params["branches"], branches, strict=True):
                _walk(branch.jaxpr, times, found, once, passes)
            totals.update(max(branches, key=lambda found: sum(found.values())))
        elif inner := [value for value in equation.params.values() if hasattr(value, "jaxpr") or hasattr(value, "eqns")]:
            _walk(getattr(inner[0], "jaxpr", inner[0]), times, totals, once, passes)
        elif name in _LAPACK:
            totals["lapack"] += times * _LAPACK[name](equation)
        elif name == "dot_general":
            totals["products"] += times * _product(equation)
        elif name not in _FREE:
            totals["elementwise"] += times * sum(math.prod(out.aval.shape) for out in equation.outvars)


def _product(equation):
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _matrix(equation, operand=0):
    *batch, m, n = equation.invars[operand].aval.shape
    return math.prod(batch), m, n


def _qr(equation):  # geqrf, (m, n) with m ≥ n
    batch, m, n = _matrix(equation)
    return batch * (2 * m * n**2 - 2 * n**3 / 3)


def _form_q(equation):  # orgqr, the n leading columns
    batch, m, n = _matrix(equation)
    return batch * (2 * m * n**2 - 2 * n**3 / 3)


def _cholesky(equation):
    batch, n, _ = _matrix(equation)
    return batch * n**3 / 3


def _triangular(equation):  # (n, n) against n × columns
    batch, n, _ = _matrix(equation)
    return batch * n * math.prod(equation.invars[1].aval.shape[-2:])


_LAPACK = {
    "geqrf": _qr,
    "qr": lambda equation: _qr(equation) + _form_q(equation),
    "householder_product": _form_q,
    "cholesky": _cholesky,
    "triangular_solve": _triangular,
}
