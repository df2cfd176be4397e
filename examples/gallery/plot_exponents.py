"""
Order, chaos, and the gain of W
===============================

The largest Lyapunov exponent is the rate at which a small change of the state grows or shrinks in the long run, in natural log
per step. Below 0 a network forgets, and gradients vanish; above 0 it is chaotic, and gradients explode. Near 0 it remembers.
"""
import matplotlib.pyplot as plt
import numpy as np

import fastbptt as fb

cell = fb.RNN(1, 64)
gains = np.linspace(0.5, 2.5, 17)
quiet = 0.05 * np.random.default_rng(0).normal(size=(400, 1, 1))

# %%
# One spectrum for each gain, with a quiet input and with a loud one. ``k=1`` asks for the largest exponent alone; the first
# 100 steps are left out, until the state has settled.

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for name, x in (("quiet input", quiet), ("loud input", 40 * quiet)):
    exponents = []
    for gain in gains:
        params = cell.init(seed=0, dtype=np.float64, gain=gain)
        exponents.append(fb.lyapunov_spectrum(cell, params, x, k=1, transient=100).item())
    axes.plot(gains, exponents, "o-", label=name)
axes.plot(gains, np.log(gains), color="0.6", linestyle=":", label="log of the gain: no slopes")
axes.axhline(0, color="black", linewidth=0.8)
axes.set(xlabel="gain of an orthogonal W", ylabel="largest exponent, per step")
axes.legend(frameon=False)
plt.show()

# %%
# A loud input drives the units to where tanh is flat, and keeps the network in order at gains at which it would be chaotic by
# itself.
