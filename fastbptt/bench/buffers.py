"""Backpropagation through time with every array allocated in advance, in NumPy's or in PyTorch's functions.

What an expert writes in either library: products that do not depend on the recurrence are one product each, outside the loop;
so are the derivatives of the gates, which the backward loop multiplies its errors by; every result goes into a buffer (``out=``),
and the views of each step are made once.
The gates of an LSTM are reordered to g i f o once, so that the three sigmoids lie side by side, and so do the three gates whose
errors come from those of c. ``tanh`` alone is called: sigmoid(a) is ½ tanh(½ a) + ½.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import GATES, Array, Case

Product = Callable[[Any, Any, Any, Any, Any], object]
"""``product(out, a, h, W, scratch)`` writes a + h W into ``out``, which may be ``a``."""


def reordered(array: Array, case: Case, back: bool = False) -> Array:
    """Rows of the gates of an LSTM (i f g o) in the order of the buffers (g i f o), or back; other cells as they are."""
    if case.cell != "lstm":
        return array
    gates = np.split(array, 4)
    return np.concatenate([gates[gate] for gate in ((1, 2, 0, 3) if back else (2, 0, 1, 3))])


class Buffers:
    """The arrays of one case and the two loops over them; ``xp`` is ``numpy`` or ``torch``."""

    def __init__(self, xp: Any, product: Product, case: Case, convert: Callable[[Array], Any]) -> None:
        self.xp, self.case, self._product = xp, case, product
        T, B, H, G = case.T, case.B, case.H, GATES[case.cell]

        def empty(*shape: int) -> Any:
            return convert(np.empty(shape, case.dtype))

        self.a, self.k, self.da = (empty(T, B, G * H) for _ in range(3))  # gates, what errors are multiplied by, errors
        self.h, self.c = empty(T + 1, B, H), empty(T + 1, B, H)
        self.e, self.scratch = empty(T, B, H), empty(T, B, H)
        self.carry, self.carry_c, self.dc, self.small = (empty(B, H) for _ in range(4))
        self.wide, self.one = empty(B, G * H), convert(np.ones((), case.dtype))
        scale = np.ones(G * H, case.dtype)
        scale[H:] = 0.5      # of an LSTM: half the argument of every sigmoid
        self.scale = convert(scale)
        self.dU, self.dW, self.dx = empty(G * H, case.I), empty(G * H, H), empty(T, B, case.I)
        self.A, self.K, self.DA, self.h_rows, self.c_rows = map(list, (self.a, self.k, self.da, self.h, self.c))
        self.E, self.S = list(self.e), list(self.scratch)

    def gates(self, array: Any, first: int, last: int) -> Any:
        """The gates first … last − 1 of an array (T, B, G·H)."""
        return array[:, :, first * self.case.H : last * self.case.H]

    def flat(self, array: Any) -> Any:
        """All rows of an array (T, B, n)."""
        return array.reshape(self.case.T * self.case.B, -1)

    def forward(self, params: dict[str, Any], x: Any, state: tuple[Any, ...]) -> Any:
        """h (T, B, H) of all steps: a view of the buffer, which the next call overwrites."""
        WT, loops = params["W"].T, {"rnn": self._forward_rnn, "gru": self._forward_gru, "lstm": self._forward_lstm}
        self._product(self.flat(self.a), params["b"], self.flat(x), params["U"].T, self.flat(self.k))
        for rows, value in zip((self.h_rows, self.c_rows), state, strict=False):
            rows[0][...] = value
        loops[self.case.cell](WT, params.get("b_hn"))
        return self.h[1:]

    def _complement(self, a: Any, out: Any) -> None:
        self.xp.subtract(self.one, a, out=out)

    def _half_plus_half(self, a: Any) -> None:
        self.xp.multiply(a, 0.5, out=a)
        self.xp.add(a, 0.5, out=a)

    def _forward_rnn(self, WT: Any, _: Any) -> None:
        xp, product, wide = self.xp, self._product, self.wide
        for a, h, new in zip(self.A, self.h_rows, self.h_rows[1:], strict=False):
            product(new, a, h, WT, wide)
            xp.tanh(new, out=new)

    def _forward_gru(self, WT: Any, b_hn: Any) -> None:
        # The scratch array keeps W_n h + b_hn for the backward pass.
        xp, H, wh, small = self.xp, self.case.H, self.wide, self.small
        wh_rz, wh_n = wh[:, : 2 * H], wh[:, 2 * H :]
        parts = (list(self.gates(self.a, *bounds)) for bounds in ((0, 2), (0, 1), (1, 2), (2, 3)))
        for rz, r, z, n, p, h, new in zip(*parts, self.S, self.h_rows, self.h_rows[1:], strict=False):
            xp.matmul(h, WT, out=wh)
            xp.add(rz, wh_rz, out=rz)
            xp.multiply(rz, 0.5, out=rz)
            xp.tanh(rz, out=rz)
            self._half_plus_half(rz)
            xp.add(wh_n, b_hn, out=p)
            xp.multiply(r, p, out=small)
            xp.add(n, small, out=n)
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=small)
            xp.multiply(small, z, out=small)
            xp.add(n, small, out=new)

    def _forward_lstm(self, WT: Any, _: Any) -> None:
        # The errors' array keeps tanh c for the backward pass.
        xp, product, wide, small = self.xp, self._product, self.wide, self.small
        parts = (list(self.gates(self.a, *bounds)) for bounds in ((1, 4), (0, 1), (1, 2), (2, 3), (3, 4)))
        rows = zip(self.A, *parts, self.E, self.h_rows, self.h_rows[1:], self.c_rows, self.c_rows[1:], strict=False)
        for a, ifo, g, i, f, o, tanh_c, h, new, c, new_c in rows:
            product(a, a, h, WT, wide)
            xp.multiply(a, self.scale, out=a)
            xp.tanh(a, out=a)
            self._half_plus_half(ifo)
            xp.multiply(g, i, out=new_c)
            xp.multiply(f, c, out=small)
            xp.add(new_c, small, out=new_c)
            xp.tanh(new_c, out=tanh_c)
            xp.multiply(o, tanh_c, out=new)

    def backward(self, params: dict[str, Any], x: Any, dh: Any) -> dict[str, Any]:
        """Gradients by name, views of buffers; after `forward` with the same params and x."""
        xp, cell, errors = self.xp, self.case.cell, self.flat(self.da)
        self.carry[...] = 0
        self.carry_c[...] = 0
        {"rnn": self._backward_rnn, "gru": self._backward_gru, "lstm": self._backward_lstm}[cell](params["W"], list(dh))
        found = {"h0": self.carry, "c0": self.carry_c} if cell == "lstm" else {"h0": self.carry}
        xp.matmul(errors.T, self.flat(self.h[:-1]), out=self.dW)
        if cell == "gru":
            found["b_hn"] = errors[:, 2 * self.case.H :].sum(0)
            self.gates(self.da, 2, 3)[...] = self.e      # from the errors of W h to those of U x
        xp.matmul(errors.T, self.flat(x), out=self.dU)
        xp.matmul(errors, params["U"], out=self.flat(self.dx))
        return {"U": self.dU, "W": self.dW, "b": errors.sum(0), "x": self.dx, **found}

    def _backward_rnn(self, W: Any, dh: list[Any]) -> None:
        xp, carry = self.xp, self.carry
        xp.multiply(self.h[1:], self.h[1:], out=self.k)
        self._complement(self.k, out=self.k)
        for e, da, k in zip(reversed(dh), reversed(self.DA), reversed(self.K), strict=True):
            xp.add(e, carry, out=da)
            xp.multiply(da, k, out=da)
            xp.matmul(da, W, out=carry)

    def _backward_gru(self, W: Any, dh: list[Any]) -> None:
        xp, B, H, carry, small = self.xp, self.case.B, self.case.H, self.carry, self.small
        r, z, n = (self.gates(self.a, gate, gate + 1) for gate in range(3))
        kr, kz, kn = (self.gates(self.k, gate, gate + 1) for gate in range(3))
        dn = self.e      # ∂h/∂(argument of n): (1 − z)(1 − n²)
        xp.multiply(n, n, out=kn)
        self._complement(kn, out=kn)
        self._complement(z, out=dn)
        xp.subtract(self.h[:-1], n, out=kz)
        xp.multiply(kz, z, out=kz)
        xp.multiply(kz, dn, out=kz)
        xp.multiply(kn, dn, out=dn)
        xp.multiply(dn, r, out=kn)
        xp.multiply(kn, self.scratch, out=kr)
        xp.multiply(kr, 1 - r, out=kr)
        by_gate = [[row.reshape(B, 3, H) for row in rows] for rows in (self.K, self.DA)]
        rows = zip(dh, self.S, [e[:, None] for e in self.S], *by_gate, self.DA, list(z), strict=True)
        for given, e, e_wide, k, da_wide, da, z_t in reversed(list(rows)):
            xp.add(given, carry, out=e)
            xp.multiply(k, e_wide, out=da_wide)
            xp.matmul(da, W, out=carry)
            xp.multiply(e, z_t, out=small)
            xp.add(carry, small, out=carry)
        xp.multiply(self.scratch, dn, out=dn)

    def _backward_lstm(self, W: Any, dh: list[Any]) -> None:
        xp, B, H, carry, carry_c, dc = self.xp, self.case.B, self.case.H, self.carry, self.carry_c, self.dc
        g, i, f, o = (self.gates(self.a, gate, gate + 1) for gate in range(4))
        kg, ki, kf, ko = (self.gates(self.k, gate, gate + 1) for gate in range(4))
        tanh_c, q = self.e, self.scratch      # q: from errors of h to those of c, o (1 − tanh²c)
        xp.multiply(tanh_c, tanh_c, out=q)
        self._complement(q, out=q)
        xp.multiply(q, o, out=q)
        xp.multiply(g, g, out=kg)
        self._complement(kg, out=kg)
        xp.multiply(kg, i, out=kg)
        for k, gate, other in ((ki, i, g), (kf, f, self.c[:-1]), (ko, o, tanh_c)):
            self._complement(gate, out=k)
            xp.multiply(k, gate, out=k)
            xp.multiply(k, other, out=k)
        by_gate = [[row.reshape(B, 4, H)[:, :3] for row in rows] for rows in (self.K, self.DA)]
        last = list(ko), list(self.gates(self.da, 3, 4))
        dc_wide = dc[:, None]
        for given, e, q_t, k, da_wide, k_o, da_o, f_t, da in reversed(
                list(zip(dh, self.E, self.S, *by_gate, *last, list(f), self.DA, strict=True))):
            xp.add(given, carry, out=e)
            xp.multiply(e, q_t, out=dc)
            xp.add(dc, carry_c, out=dc)
            xp.multiply(k, dc_wide, out=da_wide)
            xp.multiply(k_o, e, out=da_o)
            xp.multiply(dc, f_t, out=carry_c)
            xp.matmul(da, W, out=carry)
