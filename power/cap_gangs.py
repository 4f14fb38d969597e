"""Caps of gangs that span scarce domains: made to fit, and raised into what is left. Pure."""

from __future__ import annotations

import numpy as np

from power.arrays import Bools, Floats
from power.cap_prices import Market
from power.cap_scarce import FITS_W

_ROUNDS = 12
_ALMOST = 1.0 - 1e-12  # so that sums over a large domain stay on the right side


def fitted(market: Market, cap_w: Floats, gangs: Bools) -> Floats:
    """The gangs' caps, lowered where a domain could not carry them with all others at their floors."""
    parts = market.parts.only(gangs[market.parts.job])
    floors_w = market.parts.used_w(market.scarce, market.floor_w)
    above_w = np.where(gangs, np.maximum(cap_w - market.floor_w, 0.0), 0.0)
    share = _shares(market.scarce.available_w - floors_w, parts.used_w(market.scarce, above_w))
    return market.floor_w + above_w * _least_share(market, share)


def raised(market: Market, cap_w: Floats, gangs: Bools) -> Floats:
    """The caps with the gangs raised, all in proportion, each to its ceiling or until a domain is full."""
    parts = market.parts.only(gangs[market.parts.job])
    for _ in range(_ROUNDS):
        wanted_w = np.where(gangs, market.ceiling_w - cap_w, 0.0)
        room_w = market.scarce.available_w - market.parts.used_w(market.scarce, cap_w)
        share = _shares(room_w, parts.used_w(market.scarce, wanted_w))
        more_w = wanted_w * _least_share(market, share)
        if not (more_w > FITS_W).any():
            break
        cap_w = cap_w + more_w
    return cap_w


def _shares(room_w: Floats, wanted_w: Floats) -> Floats:
    """Per scarce domain: how much of what is wanted there is room for, 0..1."""
    share = np.clip(room_w / np.maximum(wanted_w, 1e-300), 0.0, 1.0)
    return np.where(wanted_w > room_w, share * _ALMOST, 1.0)


def _least_share(market: Market, share: Floats) -> Floats:
    """Per job: the least share among all domains over it."""
    above = market.scarce.above
    on_path = np.append(share, 1.0)[above].min(axis=1)
    least = np.ones(len(market.gpus))
    np.minimum.at(least, market.parts.job, on_path[market.parts.home])
    return least
