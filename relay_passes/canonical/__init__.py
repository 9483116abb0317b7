"""Passes from the raw graph to the canonical one: each file one pass, each ``Graph -> Graph``."""
