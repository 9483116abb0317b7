"""Cosimulation: the hardware's sources compiled to a model that Python drives."""
