"""JAX as an expert writes it: a scan whose derivative is written out, so that its loop has one product in each direction.

What automatic differentiation of a scan does at every step, and this does not: add the step's part to the gradient of W, which
is an array as large as W. Here the backward scan returns the errors of every step, and dW is one product of them, as in the
other sides. The derivatives of the gates are computed outside the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .cases import Array, Arrays, Case
from .jax_peer import JaxPeer

UNROLLS = (1, 4, 16)
Cell = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


class JaxVjpPeer(JaxPeer):
    """A scan with a custom_vjp, unrolled 1, 4 or 16 times, whichever is fastest."""

    name = "jax-vjp"

    def supports(self, case: Case) -> bool:
        """Full backpropagation."""
        return case.truncation is None

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Compiles every form."""
        jax = self._jax
        self._arguments = jax.tree.map(jax.numpy.asarray, (arrays.params, arrays.x, arrays.state, arrays.dh))
        self._forms = {unroll: jax.jit(_gradients(jax, case, unroll)) for unroll in UNROLLS if unroll <= case.T}
        for form in self._forms.values():
            jax.block_until_ready(form(*self._arguments))
        self._choose(min(self._forms))

    def _choose(self, unroll: int) -> None:
        self._step, self.setting = self._forms[unroll], f"unroll {unroll}"

    def tune(self) -> None:
        """Takes the fastest form."""
        taken = {unroll: float("inf") for unroll in self._forms}
        for _ in range(5):
            for unroll in taken:
                self._choose(unroll)
                start = time.perf_counter()
                self.run()
                taken[unroll] = min(taken[unroll], time.perf_counter() - start)
        self._choose(min(taken, key=lambda unroll: taken[unroll]))

    def gradients(self, result: Any) -> dict[str, Array]:
        """The gradients as NumPy arrays."""
        return super().gradients((None, result))


def _gradients(jax: Any, case: Case, unroll: int) -> Callable[..., Any]:
    jnp, (ahead, factors, back) = jax.numpy, _cell(jax, case)

    def flat(a: Any) -> Any:
        return a.reshape(case.T * case.B, -1)

    def scan(params: Any, x: Any, state: Any) -> Any:
        """h of all steps, and what the backward pass needs."""
        a, WT = (flat(x) @ params["U"].T + params["b"]).reshape(case.T, case.B, -1), params["W"].T

        def step(old: Any, a: Any) -> Any:
            new, saved = ahead(a, old[0] @ WT, old, params)
            return new, (new, saved)

        _, (new, saved) = jax.lax.scan(step, state, a, unroll=unroll)
        before = tuple(jnp.concatenate((s[None], n[:-1])) for s, n in zip(state, new, strict=True))
        return new[0], (params, x, before, new, saved)

    run = jax.custom_vjp(lambda params, x, state: scan(params, x, state)[0])

    def backward(residual: Any, dh: Any) -> Any:
        params, x, before, new, saved = residual

        def step(carry: Any, row: Any) -> Any:
            e, k = row
            d_recurrent, d_input, carry = back((carry[0] + e, *carry[1:]), k)
            return (carry[0] + d_recurrent @ params["W"], *carry[1:]), (d_recurrent, d_input)

        zero = tuple(jnp.zeros_like(s[0]) for s in before)
        rows = dh, factors(before, new, saved)
        state, (d_recurrent, d_input) = jax.lax.scan(step, zero, rows, reverse=True, unroll=unroll)
        d_recurrent = flat(d_recurrent)
        d_input = d_recurrent if d_input is None else jnp.concatenate((d_recurrent[:, : 2 * case.H], flat(d_input)), axis=1)
        found = {"U": d_input.T @ flat(x), "W": d_recurrent.T @ flat(before[0]), "b": d_input.sum(0)}
        if case.cell == "gru":
            found["b_hn"] = d_recurrent[:, 2 * case.H :].sum(0)
        return found, (d_input @ params["U"]).reshape(x.shape), state

    run.defvjp(scan, backward)
    return lambda params, x, state, dh: jax.vjp(run, params, x, state)[1](dh)


def _cell(jax: Any, case: Case) -> Cell:
    """A step forward, what errors are multiplied by (of all steps at once), and a step back without its product.

    A step back returns the errors of W h, those of the candidate gate of U x where they differ, and the errors of the old
    states but for those that come through W.
    """
    return {"rnn": _rnn, "gru": _gru, "lstm": _lstm}[case.cell](jax, case.H)


def _rnn(jax: Any, H: int) -> Cell:
    def ahead(a: Any, wh: Any, old: Any, params: Any) -> Any:
        return (jax.numpy.tanh(a + wh),), None

    def factors(before: Any, new: Any, saved: Any) -> Any:
        return 1 - new[0] * new[0]

    def back(errors: Any, k: Any) -> Any:
        return errors[0] * k, None, (jax.numpy.zeros_like(errors[0]),)

    return ahead, factors, back


def _gru(jax: Any, H: int) -> Cell:
    jnp = jax.numpy

    def ahead(a: Any, wh: Any, old: Any, params: Any) -> Any:
        r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * H] + wh[:, : 2 * H]), 2, axis=1)
        p = wh[:, 2 * H :] + params["b_hn"]
        n = jnp.tanh(a[:, 2 * H :] + r * p)
        return (n + z * (old[0] - n),), (r, z, n, p)

    def factors(before: Any, new: Any, saved: Any) -> Any:
        r, z, n, p = saved
        dn = (1 - z) * (1 - n * n)
        return jnp.concatenate((dn * p * r * (1 - r), (before[0] - n) * z * (1 - z), dn * r), axis=2), dn, z

    def back(errors: Any, k: Any) -> Any:
        (e,), (gates, dn, z) = errors, k
        return jnp.tile(e, (1, 3)) * gates, e * dn, (e * z,)

    return ahead, factors, back


def _lstm(jax: Any, H: int) -> Cell:
    jnp = jax.numpy

    def ahead(a: Any, wh: Any, old: Any, params: Any) -> Any:
        i, f, g, o = jnp.split(a + wh, 4, axis=1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * old[1] + i * g
        tanh_c = jnp.tanh(c)
        return (o * tanh_c, c), (i, f, g, o, tanh_c)

    def factors(before: Any, new: Any, saved: Any) -> Any:
        i, f, g, o, tanh_c = saved
        by_c = jnp.concatenate((g * i * (1 - i), before[1] * f * (1 - f), i * (1 - g * g)), axis=2)
        return by_c, tanh_c * o * (1 - o), o * (1 - tanh_c * tanh_c), f

    def back(errors: Any, k: Any) -> Any:
        (e, dc), (by_c, by_h, through, f) = errors, k
        dc = dc + e * through
        return jnp.concatenate((jnp.tile(dc, (1, 3)) * by_c, e * by_h), axis=1), None, (jnp.zeros_like(e), dc * f)

    return ahead, factors, back
