"""The enforcer: a small process that alone may change GPU power limits."""
