"""Fixed and slow points of a network under a constant input: batched Newton steps with a line search on the analytic Jacobian.

With r = F(s) − s and A = ∂F/∂s − I: a Newton step solves A d = −r. Where A is nearly singular and the step long, or the speed
q = ½ ‖r‖² does not decrease along it, the damped step (AᵀA + ‖r‖ I) d = −Aᵀ r takes its place and leads to a local minimum of q.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..bptt.api import forward
from ..errors import check_constant_input, check_integer, check_one_direction, check_params, check_positive, check_starts
from ..tree import first_array, leaves, tree_map
from .stack import linear_steps

FLOATS = 2**22        # of the Jacobians of the starts that are followed together
HALVINGS = 8          # of a step, before another direction is tried
DECREASE = 1e-4       # of q, as a share of what the slope promises, for a step to count
LEVEL = 1e-6          # ‖Aᵀ r‖ / ((1 + ‖A‖) ‖r‖) at a local minimum of q
FAR = 10.0            # times the largest norm of 1 and a start: beyond, saturated units are slow all the way to infinity
LONG = 10.0           # times ‖r‖: a longer Newton step would jump over a slow point


class FixedPoints(NamedTuple):
    """The points that `fixed_points` found, by increasing speed."""

    states: Any
    """State of arrays (n, H), or for a stack of every layer."""
    speeds: Array
    """(n,): q = ½ ‖F(s) − s‖²."""
    fixed: Array
    """(n,) booleans: q ≤ tol; the others are slow points, local minima of q."""
    jacobians: Array
    """(n, S, S): ∂F/∂s."""
    eigenvalues: Array
    """(n, S) complex: of the Jacobian, largest modulus first."""
    stable: Array
    """(n,) booleans: all moduli are below 1."""
    counts: Array
    """(n,): how many starts ended there."""


def fixed_points(cell: Any, params: Any, x: Any, states: Any, *, tol: float = 1e-20, steps: int = 200,
                 distance: float = 1e-4) -> FixedPoints:
    """Points where a network with the constant input x stays, F(s; x) = s, and points where it is slow.

    Found from every given state by Newton's method in float64, merged where they are the same, with their stability.

    Parameters
    ----------
    cell, params
        As given to `forward`; for a stack in one direction, of its joint state.
    x : (I,) real, or an integer id
        The input of every step.
    states : State of (B, H) arrays
        Where to start, such as states that the network visits: ``RNNState(tape.h.reshape(-1, H))``.
    tol : float
        Largest speed q = ½ ‖F(s) − s‖² of a fixed point.
    steps : int
        Most steps from a start. A start that has not come to a point by then is left out.
    distance : float
        Points closer than this, times the norm of 1 and the state, are one.

    Returns
    -------
    FixedPoints
        Sorted by speed; of length 0 where no start came to a point.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape, dtype or range, or the cell has two directions.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1)
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 2.0), np.zeros(1))
    >>> found = fb.fixed_points(cell, params, np.zeros(1), fb.RNNState(np.array([[-2.0], [-0.1], [0.1], [2.0]])))
    >>> order = np.argsort(found.states.h[:, 0])
    >>> found.states.h[order, 0].round(4), found.stable[order]
    (array([-0.9575,  0.    ,  0.9575]), array([ True, False,  True]))

    References
    ----------
    D. Sussillo and O. Barak, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural networks",
    Neural Computation 25(3), 2013; J. Fan and Y. Yuan, Computing 74, 2005 (the damping).
    """
    params = check_params(cell, params)
    check_one_direction(cell, "fixed points")
    dtype = first_array(params).dtype
    x, starts = check_constant_input(cell, x, dtype), check_starts(cell, states, dtype)
    tol, distance = check_positive("tol", tol), check_positive("distance", distance)
    steps = check_integer("steps", steps, 1, "pass the most steps from a start")
    given = x.astype(np.float64) if x.dtype.kind == "f" else x
    network = _Map(cell, tree_map(lambda a: a.astype(np.float64), params), given)
    s = np.concatenate([a.astype(np.float64) for a in leaves(starts)], axis=1)
    together = max(1, FLOATS // s.shape[1] ** 2)
    found = [_search(network, s[i:i + together], tol, steps) for i in range(0, len(s), together)]
    points, speeds = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _described(network, *_merged(points, speeds, distance), tol)


class _Map:
    """One step of the network under a constant input, on joint states (n, S)."""

    def __init__(self, cell: Any, params: Any, x: Array):
        self.cell, self.params, self.x = cell, params, x
        self.sizes = [own.hidden_size for own in cell.scans for _ in own.state_type._fields]

    def split(self, s: Array) -> Any:
        """The State of joint states."""
        parts = iter(np.split(s, np.cumsum(self.sizes)[:-1], axis=1))
        return self.cell.per_layer(own.state_type(*[np.ascontiguousarray(next(parts)) for _ in own.state_type._fields])
                                   for own in self.cell.scans)

    def tape(self, s: Array) -> Any:
        """The step from every state."""
        x = np.ascontiguousarray(np.broadcast_to(self.x, (1, len(s), *self.x.shape)))
        return forward(self.cell, self.params, x, self.split(s))

    def residual(self, s: Array) -> Array:
        """F(s) − s."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(np.concatenate(list(leaves(self.tape(s).final)), axis=1) - s)

    def jacobians(self, s: Array) -> Array:
        """∂F/∂s, (n, S, S)."""
        return np.asarray(linear_steps(self.cell, self.params, self.tape(s)).jacobians()[0])


class _Points:
    """States on their way down the speed: s, r = F(s) − s and q."""

    def __init__(self, network: _Map, s: Array):
        self.network, self.s, self.r = network, s.copy(), network.residual(s)
        self.q = _speed(self.r)

    def descend(self, rows: Array, A: Array, d: Array) -> Array:
        """Go along d from these rows as far as q decreases enough, halving the step; returns which rows moved."""
        slope = np.einsum("ni,nij,nj->n", self.r[rows], A, d)
        moved, left, step = np.zeros(len(rows), bool), np.flatnonzero((slope < 0) & np.isfinite(d).all(axis=1)), 1.0
        for _ in range(HALVINGS):
            if not left.size:
                break
            s = self.s[rows[left]] + step * d[left]
            r = self.network.residual(s)
            q = _speed(r)
            good = q <= self.q[rows[left]] + DECREASE * step * slope[left]      # false for NaN
            at = rows[left[good]]
            self.s[at], self.r[at], self.q[at] = s[good], r[good], q[good]
            moved[left[good]] = True
            left, step = left[~good], step / 2
        return moved


def _speed(r: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(0.5 * (r * r).sum(axis=1))


def _search(network: _Map, start: Array, tol: float, steps: int) -> tuple[Array, Array]:
    """The points and speeds that starts lead to; without those that lead to none."""
    points = _Points(network, start)
    eye, level = np.eye(start.shape[1]), np.zeros(len(start), bool)
    far = FAR * (1 + _norm(start).max())
    active = np.flatnonzero((points.q > tol) & np.isfinite(points.q))
    for _ in range(steps):
        if not active.size:
            break
        A, r = network.jacobians(points.s[active]) - eye, points.r[active]
        gradient = np.einsum("nij,ni->nj", A, r)
        flat = _norm(gradient) <= LEVEL * (1 + np.sqrt((A * A).sum(axis=(1, 2)))) * _norm(r)
        level[active[flat]] = True
        active, A, gradient = active[~flat], A[~flat], gradient[~flat]
        newton = -_solve(A, points.r[active])
        newton[_norm(newton) > LONG * _norm(points.r[active])] = np.nan
        moved = points.descend(active, A, newton)
        left = np.flatnonzero(~moved)
        damped = np.matmul(A[left].swapaxes(1, 2), A[left]) + _norm(points.r[active[left]])[:, None, None] * eye
        moved[left] = points.descend(active[left], A[left], -_solve(damped, gradient[left]))
        active = active[moved & (points.q[active] > tol) & (_norm(points.s[active]) < far)]
    done = ((points.q <= tol) | level) & (_norm(points.s) < far)
    return points.s[done], points.q[done]


def _norm(rows: Array) -> Array:
    return np.asarray(np.sqrt((rows * rows).sum(axis=1)))


def _solve(A: Array, b: Array) -> Array:
    """A⁻¹ b; where one A is singular to the last bit the shortest of the best solutions."""
    try:
        return np.asarray(np.linalg.solve(A, b[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        return np.asarray(np.matmul(np.linalg.pinv(A), b[:, :, None])[:, :, 0])


def _merged(points: Array, speeds: Array, distance: float) -> tuple[Array, Array, Array]:
    """Different points, slowest first, their speeds, and how many starts ended at each."""
    order = np.argsort(speeds, kind="stable")
    points, speeds = points[order], speeds[order]
    kept: list[int] = []
    counts: list[int] = []
    left = np.arange(len(points))
    while left.size:
        first = left[0]
        near = _norm(points[left] - points[first]) <= distance * np.sqrt(1 + (points[first] ** 2).sum())
        kept.append(int(first))
        counts.append(int(near.sum()))
        left = left[~near]
    return points[kept], speeds[kept], np.array(counts, np.int64)


def _described(network: _Map, points: Array, speeds: Array, counts: Array, tol: float) -> FixedPoints:
    n, S = points.shape
    J = network.jacobians(points) if n else np.zeros((0, S, S))
    values = np.linalg.eigvals(J).astype(np.complex128)
    moduli = np.abs(values)
    eigenvalues = np.take_along_axis(values, np.argsort(-moduli, axis=1, kind="stable"), axis=1)
    return FixedPoints(network.split(points), speeds, speeds <= tol, J, eigenvalues, moduli.max(axis=1, initial=0) < 1, counts)
