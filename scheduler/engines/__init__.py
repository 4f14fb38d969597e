"""Where processes run: one Protocol, one file per engine."""
