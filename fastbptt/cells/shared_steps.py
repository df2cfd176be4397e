"""One step that several threads share: each takes a part of the units, and all wait for each other between the phases.

A phase reads what the one before it has written for all units: the product with the state, then the gates and new states,
or backward the errors of the gates, then the product with W. How a step is cut changes no bit of it, so the number of
parts may follow the number of threads.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.jit import njit
from ..engine.pool import run_pieces
from .buffers import measure
from .form import has_second_product
from .step import (
    multiply_errors,
    multiply_operand,
    multiply_operand_error,
    multiply_state,
    operand_backward,
    operand_forward,
    update_errors,
    update_states,
)


class Step(NamedTuple):
    """A step of n rows, first … first+n−1 of the block, in so many parts."""

    first: int
    n: int
    parts: int
    work: Any
    job: Any


@njit
def _state_product(part, step):
    job = step.job
    multiply_state(job.params, step.work, step.first, step.n, measure(job.params, job.tape, job.initial), part, step.parts)


@njit
def _operands(part, step):
    job = step.job
    operand_forward(job.params, job.options, step.work, step.first, step.n, measure(job.params, job.tape, job.initial), part,
                    step.parts)


@njit
def _second_products(part, step):
    job = step.job
    multiply_operand(job.params, step.work, step.first, step.n, measure(job.params, job.tape, job.initial), part, step.parts)


@njit
def _new_states(part, step):
    job = step.job
    update_states(job.params, job.options, job.tape, step.work, step.first, step.n,
                  measure(job.params, job.tape, job.initial), part, step.parts)


@njit
def _gate_errors(part, step):
    job = step.job
    update_errors(job.params, job.options, job.tape, job.initial, step.work, step.first, step.n,
                  measure(job.params, job.tape, job.initial), part, step.parts)


@njit
def _operand_errors(part, step):
    job = step.job
    multiply_operand_error(job.params, step.work, step.first, step.n, measure(job.params, job.tape, job.initial), part,
                           step.parts)


@njit
def _first_gate_errors(part, step):
    job = step.job
    operand_backward(job.params, job.tape, job.initial, step.work, step.first, step.n,
                     measure(job.params, job.tape, job.initial), part, step.parts)


@njit
def _error_product(part, step):
    job = step.job
    multiply_errors(job.params, job.options, step.work, step.first, step.n,
                    measure(job.params, job.tape, job.initial), part, step.parts)


@njit
def share_forward(step, pool):
    """`step_forward` on the threads of a pool."""
    run_pieces(_state_product, step, step.parts, pool)
    if has_second_product(step.job.params):
        run_pieces(_operands, step, step.parts, pool)
        run_pieces(_second_products, step, step.parts, pool)
    run_pieces(_new_states, step, step.parts, pool)


@njit
def share_backward(step, pool):
    """`step_backward` on the threads of a pool."""
    run_pieces(_gate_errors, step, step.parts, pool)
    if has_second_product(step.job.params):
        run_pieces(_operand_errors, step, step.parts, pool)
        run_pieces(_first_gate_errors, step, step.parts, pool)
    run_pieces(_error_product, step, step.parts, pool)
