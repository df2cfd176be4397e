"""Gradients as data: Jacobians, gradients by lag and by step, exponents, the horizon to choose."""
