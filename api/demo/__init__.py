"""The demonstration: a real day of prices, replayed over three real training jobs."""
