"""Watts and what they cost. Knows no job.

Conventions of the whole package: drawn power is positive watts (`_w`), energy is joules (`_j`) or
kilowatt-hours (`_kwh`), prices are money of the site's one currency per megawatt-hour
(`_per_mwh`, negative is normal), carbon is grams per kilowatt-hour (`_g_per_kwh`), time is aware UTC,
and every interval is half-open: `start <= t < end`.
"""
