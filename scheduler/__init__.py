"""Decisions and the loop: observe, decide, verify, act."""
