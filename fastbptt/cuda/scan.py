"""The loop over time on a GPU, forward and backward, once for every cell: a block of threads for each sequence, or pass.

Thread (unit j, lane s of `split`) has its share of W[j, :] (forward) or W[:, j] (backward) for the whole scan, in registers as
far as these reach, else read from the cache at every step: groups of four neighbours, every `split`-th group, so that lanes
load states as vectors of four without conflicts. A step is a row of products, a sum over `split` lanes by shuffles, the cell's
point function, one barrier. States are double-buffered in shared memory, so that one barrier a step is enough. What the next
step reads of global memory is fetched before this step's products.

A masked index is known not to be negative, which drops Numba's code for indices from the end. Units beyond H have weights 0,
read what unit H−1 reads, and store nothing but zeros for the others to read.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Options
from ..cells.form import FORMS
from .parts import load, product, store, with_first
from .points import points_of
from .shape import Shape
from .target import compile_kernel, cuda, lane_sum, real_type


class Scans(NamedTuple):
    """The kernels of a cell; all arrays are flat."""

    forward: Any
    """(z, packed, bias, own, initial, resets, lengths, tape, saved, B, T): z (T, B, Gin, H) = U x without b."""
    backward: Any
    """(dh, packed, own, initial, incoming, resets, lengths, passes, tape, saved, delta, sums, outgoing, add, B, T)."""


class Variant(NamedTuple):
    """What kernels are made for."""

    params_type: type
    options: Options
    saves: bool
    """Whether the tape has what the form saves of a step."""
    resets: bool
    dtype: str


# ---------------------------------------------------------------------------------------------- forward

@cache
def forward_scan(variant: Variant, shape: Shape) -> Any:
    """The forward kernel, as a Python function."""
    params_type, options, saves, has_resets, dtype = variant
    form, points = FORMS[params_type], points_of(params_type, options, dtype)
    columns, inputs, _, first_recurrent, gates = form.layout
    S, second, H, Hp, K, split = form.states, form.second_product is not None, shape.H, shape.Hp, shape.weights, shape.split
    block, threads, held, kept_count = gates - second, shape.threads, shape.held, form.saved
    size, held_size, sums_size = 2 * Hp, max(1, held * K), max(2, gates)
    real, zero, total = real_type(dtype), np.dtype(dtype).type(0), lane_sum(split)
    main, last_gate = product(0, block, shape, dtype), product(block, gates, shape, dtype)
    load_states, store_states, take = load(S), store(S), load(columns)
    load_extra, keep = load(form.extra_count), store(kept_count if saves else 0)
    point, reset_gate = points.forward, points.second_forward

    def forward(z, packed, bias, own, initial, resets, lengths, tape, saved, B, T):
        states = cuda.shared.array(size, real, 16)
        operands = cuda.shared.array(Hp, real, 16)
        w = cuda.local.array(held_size, real)
        sums = cuda.local.array(sums_size, real)
        a = cuda.local.array(columns, real)
        ahead = cuda.local.array(inputs, real)
        offset = cuda.local.array(inputs, real)
        tid = cuda.threadIdx.x & 1023
        j, s, b = tid // split, tid % split, cuda.blockIdx.x & 0xffffff
        there, u = j < H, min(j, H - 1)
        writes = there and s == 0
        for n in range(held * K):
            w[n] = packed[(n // 4 * threads + tid) * 4 + n % 4]
        width, row, steps = B * H, b * H + u, lengths[b]
        plane = (T + 1) * width
        extra, old = load_extra(own, u, H), load_states(initial, row, width)
        at = b * inputs * H + u
        for p in range(inputs):
            offset[p] = bias[p * H + u]
            ahead[p] = z[at + p * H] + offset[p]
        if writes:
            store_states(tape, row, plane, old)
        if s == 0:
            states[j] = old[0] if there else zero
        cuda.syncthreads()
        for t in range(steps):
            now, then = (t & 1) * Hp, (~t & 1) * Hp
            if has_resets:
                if resets[t * B + b]:
                    old = load_states(initial, row, width)
                    if s == 0:
                        states[now + j] = old[0] if there else zero
                    cuda.syncthreads()
            for p in range(columns):
                a[p] = ahead[p] if p < inputs else zero
            if t + 1 < steps:
                for p in range(inputs):
                    ahead[p] = z[at + (t + 1) * inputs * width + p * H] + offset[p]
            for n in range(sums_size):
                sums[n] = zero
            main(sums, w, packed, states, now, 0, s, tid)
            if block == 1:
                sums[0] += sums[1]
            for q in range(block):
                a[first_recurrent + q] += total(sums[q])
            if second:
                a[0], operand = reset_gate(take(a, 0, 1), old)
                if s == 0:
                    operands[j] = operand if there else zero
                sums[0], sums[1] = zero, zero
                cuda.syncthreads()
                last_gate(sums, w, packed, operands, 0, 0, s, tid)
                a[first_recurrent + block] += total(sums[0] + sums[1])
            old, kept = point(take(a, 0, 1), old, extra)
            if s == 0:
                states[then + j] = old[0] if there else zero
            if writes:
                store_states(tape, (t + 1) * width + row, plane, old)
                keep(saved, (t * B + b) * kept_count * H + u, H, kept)
            cuda.syncthreads()
        if writes:
            for t in range(steps, T):
                store_states(tape, (t + 1) * width + row, plane, old)
                for n in range(kept_count if saves else 0):
                    saved[(t * B + b) * kept_count * H + n * H + u] = zero
    return forward


# ---------------------------------------------------------------------------------------------- backward

@cache
def backward_scan(variant: Variant, shape: Shape) -> Any:
    """The backward kernel, as a Python function."""
    params_type, options, saves, has_resets, dtype = variant
    form, points = FORMS[params_type], points_of(params_type, options, dtype)
    columns, inputs, _, first_recurrent, gates = form.layout
    S, second, H, Hp, K, split = form.states, form.second_product is not None, shape.H, shape.Hp, shape.weights, shape.split
    block, threads, held, kept_count, X = gates - second, shape.threads, shape.held, form.saved, form.extra_count
    size, held_size, sums_size, units, X_size = 2 * gates * Hp, max(1, held * K), max(2, gates), inputs + X, max(1, X)
    stored = max(inputs, first_recurrent + gates)
    real, zero, total = real_type(dtype), np.dtype(dtype).type(0), lane_sum(split)
    main, last_gate = product(0, block, shape, dtype), product(block, gates, shape, dtype)
    load_states, store_states, split_up, take = load(S), store(S), store(columns), load(columns)
    load_extra, load_kept, store_extra, replace = load(X), load(kept_count), store(X), with_first(S)
    point, own_gradients, reset_gate = points.backward, points.extra_backward, points.second_backward

    def backward(dh, packed, own, initial, incoming, resets, lengths, passes, tape, saved, delta, unit_sums, outgoing,
                 add, B, T):
        errors = cuda.shared.array(size, real, 16)
        w = cuda.local.array(held_size, real)
        sums = cuda.local.array(sums_size, real)
        d = cuda.local.array(columns, real)
        unit = cuda.local.array(units, real)
        x = cuda.local.array(X_size, real)
        left = cuda.local.array(S, real)
        none = cuda.local.array(S, real)
        tid = cuda.threadIdx.x & 1023
        j, s, number = tid // split, tid % split, cuda.blockIdx.x & 0xffffff
        there, u = j < H, min(j, H - 1)
        writes = there and s == 0
        for n in range(held * K):
            w[n] = packed[(n // 4 * threads + tid) * 4 + n % 4]
        for n in range(units):
            unit[n] = zero
        for n in range(S):
            left[n] = none[n] = zero
        b, end, previous, stop = passes[4 * number], passes[4 * number + 1], passes[4 * number + 2], passes[4 * number + 3]
        width, row, steps = B * H, b * H + u, end - stop
        plane, extra = (T + 1) * width, load_extra(own, u, H)
        e = load_states(none, 0, 1)
        if end == lengths[b]:
            e = load_states(incoming, row, width)
        at = (end - 1) * width + row
        new, before = load_states(tape, at + width, plane), load_states(tape, at, plane)
        kept = load_kept(saved, ((end - 1) * B + b) * kept_count * H + u, H) if saves else new
        g = dh[at]
        for k in range(steps):
            t, now = end - 1 - k, (k & 1) * gates * Hp
            at = t * width + row
            old, reset = before, False
            if has_resets:
                if resets[t * B + b]:
                    old, reset = load_states(initial, row, width), True
            da, direct = point(kept, old, new, extra, replace(e, e[0] + g))
            split_up(d, 0, 1, da)
            if second:
                if s == 0:
                    errors[now + block * Hp + j] = d[first_recurrent + block] if there else zero
                sums[0], sums[1] = zero, zero
                cuda.syncthreads()
                last_gate(sums, w, packed, errors, now, Hp, s, tid)
                d[0], part = reset_gate(kept, old, total(sums[0] + sums[1]))
                direct = replace(direct, direct[0] + part)
            if s == 0:
                for q in range(block):
                    errors[now + q * Hp + j] = d[first_recurrent + q] if there else zero
            if writes:
                place = (t * B + b) * stored * H + u
                for p in range(stored):
                    delta[place + p * H] = d[p] + delta[place + p * H] if add else d[p]
            store_extra(x, 0, 1, own_gradients(take(d, 0, 1), old, new))
            for n in range(inputs):
                unit[n] += d[n]
            for n in range(X):
                unit[inputs + n] += x[n]
            if k + 1 < steps:
                new, before = before, load_states(tape, at - width, plane)
                kept = load_kept(saved, ((t - 1) * B + b) * kept_count * H + u, H) if saves else new
                g = dh[at - width] if t > previous else zero
            for n in range(sums_size):
                sums[n] = zero
            if s == 0:
                sums[0] = direct[0]
            cuda.syncthreads()
            main(sums, w, packed, errors, now, Hp, s, tid)
            for q in range(1, sums_size):
                sums[0] += sums[q]
            e = replace(direct, total(sums[0]))
            if reset:
                for n in range(S):
                    left[n] += e[n]
                e = load_states(none, 0, 1)
        if stop == 0:
            for n in range(S):
                left[n] += e[n]
        if writes:
            passes_width = cuda.gridDim.x * H
            store_states(outgoing, number * H + u, passes_width, load_states(left, 0, 1))
            for n in range(units):
                unit_sums[number * units * H + n * H + u] = unit[n]
    return backward


@cache
def scans(variant: Variant, shape: Shape) -> Scans:
    """The compiled kernels."""
    return Scans(compile_kernel(forward_scan(variant, shape), shape.threads),
                 compile_kernel(backward_scan(variant, shape), shape.threads))
