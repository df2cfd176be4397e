"""Gradients as data: Jacobians, lags, exponents, the horizon to choose, and a report."""
