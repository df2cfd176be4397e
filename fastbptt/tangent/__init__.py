"""Derivatives along a direction, of the states (jvp) and of the gradient (hvp)."""
