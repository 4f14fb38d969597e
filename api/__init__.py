"""Every way in: REST, console, command line, and the one place that wires the daemon."""
