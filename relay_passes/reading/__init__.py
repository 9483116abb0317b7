"""Relax into the raw float graph, operator by operator."""
