"""What a power cap does to one job on one GPU: throughput and mean watts as functions of the cap.

Forms and parameters are fitted to 218 measured training curves (Zeus, NSDI '23, Apache-2.0) and 42
inference sweeps; a curve is per (GPU model, workload), and a workload's own demand matters most.
With c = cap / TDP and d = uncapped demand / TDP:

    throughput  r(c) = t(c) / t(1),  t = (1 + x^-n)^(-1/n),  x = ((c - p0) / (s d - p0))^gamma    (T6n)
    mean power  p(c) = (d^-m + (a c + b)^-m)^(-1/m), never above the cap                          (P4)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_FAR_ABOVE_DEMAND: Final = 1e9  # where no cap can be felt any more; keeps the powers finite


@dataclass(frozen=True, slots=True, kw_only=True)
class CapCurve:
    """One job on one GPU. Watts are board watts of one GPU; throughput is relative to uncapped, 0..1.

    The errors are relative (mean absolute) and say how far the curve is from measurements of a workload
    that it was not fitted on: keep a contract with at least this much in hand.
    """

    tdp_w: float  # the highest cap
    min_cap_w: float
    idle_w: float
    demand_w: float  # mean draw when nothing limits it
    t6_p0: float
    t6_s: float
    t6_gamma: float
    t6_n: float
    p4_a: float
    p4_b: float
    p4_m: float
    throughput_error: float = 0.0
    power_error: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_cap_w <= self.tdp_w < math.inf:
            raise ValueError(f"caps must be 0 < min <= max, got {self.min_cap_w} .. {self.tdp_w} W")
        if not 0 <= self.idle_w < math.inf or not 0 < self.demand_w < math.inf:
            raise ValueError(f"idle must be >= 0 W and demand > 0 W, got {self.idle_w} and {self.demand_w}")
        if min(self.t6_s, self.t6_gamma, self.t6_n, self.p4_a, self.p4_m) <= 0 or not 0 <= self.t6_p0 < 1:
            raise ValueError("s, gamma, n, a and m of a curve must be above 0, and p0 in 0..1")

    def throughput(self, cap_w: float) -> float:
        """Work per second at `cap_w`, relative to uncapped; never falls as the cap rises.

        A cap outside `min_cap_w .. tdp_w` counts as the nearest allowed one.
        """
        cap_fraction = self._within(cap_w) / self.tdp_w
        return min(1.0, self._unnormalised(cap_fraction) / self._unnormalised(1.0))

    def power_w(self, cap_w: float) -> float:
        """Mean draw of the busy GPU at `cap_w`; never falls as the cap rises, never above the cap."""
        cap = self._within(cap_w)
        limited = self._limited(cap_w)
        if limited <= 0:
            return min(self.idle_w, cap)
        demand = self.demand_w / self.tdp_w
        # Written around the smaller term: its power alone would overflow for steep m.
        low, high = sorted((demand, limited))
        mean_w = self.tdp_w * low * math.pow(1.0 + math.pow(low / high, self.p4_m), -1.0 / self.p4_m)
        return min(cap, max(self.idle_w, mean_w))

    def limited_w(self, cap_w: float) -> float:
        """Mean draw at `cap_w` of a job that would take any watts: what a cap lets through, below itself."""
        return self.tdp_w * self._limited(cap_w)

    def demand_of(self, draw_w: float, cap_w: float) -> float:
        """The demand that shows as this mean draw at `cap_w` (`power_w` the other way round).

        Infinite where the draw is all that the cap lets through: any higher demand would show the same.
        """
        limited_w = self.limited_w(cap_w)
        if draw_w >= limited_w:
            return math.inf
        return draw_w * math.pow(1.0 - math.pow(draw_w / limited_w, self.p4_m), -1.0 / self.p4_m)

    def cap_for(self, throughput: float) -> float:
        """The least cap that reaches `throughput` (to 1e-9), within `min_cap_w .. tdp_w`."""
        if throughput <= self.throughput(self.min_cap_w):
            return self.min_cap_w
        if throughput >= 1.0:
            return self.tdp_w
        reach = throughput * self._unnormalised(1.0)
        rest = 1.0 - math.pow(reach, self.t6_n)
        if rest <= 0.0:
            return self.tdp_w
        x = reach * math.pow(rest, -1.0 / self.t6_n)
        scale = self.t6_s * self.demand_w / self.tdp_w - self.t6_p0
        return self._within((self.t6_p0 + scale * math.pow(x, 1.0 / self.t6_gamma)) * self.tdp_w)

    def energy_per_work_j(self, cap_w: float) -> float:
        """Joules per second's worth of uncapped work; infinite where the cap stops all work."""
        throughput = self.throughput(cap_w)
        return self.power_w(cap_w) / throughput if throughput > 0 else math.inf

    def knee_cap_w(self) -> float:
        """The cap of least energy per work; below it, pausing beats capping."""
        return _knee_cap_w(self)

    def _limited(self, cap_w: float) -> float:
        return self.p4_a * self._within(cap_w) / self.tdp_w + self.p4_b

    def _within(self, cap_w: float) -> float:
        if math.isnan(cap_w):
            raise ValueError("a cap must be a number of watts, got NaN")
        return min(max(cap_w, self.min_cap_w), self.tdp_w)

    def _unnormalised(self, cap_fraction: float) -> float:
        scale = self.t6_s * self.demand_w / self.tdp_w - self.t6_p0
        if scale <= 0:  # demands less than the floor that the cap cannot touch
            return 1.0
        if cap_fraction <= self.t6_p0:
            return 0.0
        x = math.pow(min((cap_fraction - self.t6_p0) / scale, _FAR_ABOVE_DEMAND), self.t6_gamma)
        if x > 1.0:
            return math.pow(1.0 + math.pow(x, -self.t6_n), -1.0 / self.t6_n)
        return x * math.pow(1.0 + math.pow(x, self.t6_n), -1.0 / self.t6_n)


@lru_cache(maxsize=4096)
def _knee_cap_w(curve: CapCurve) -> float:
    steps = 200
    span = curve.tdp_w - curve.min_cap_w
    between = [curve.min_cap_w + span * step / steps for step in range(1, steps)]
    return min([curve.min_cap_w, *between, curve.tdp_w], key=curve.energy_per_work_j)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Parameters of one GPU model; `demands` are shares of TDP by workload family, `idle_w` at its TDP."""

    tdp_w: float
    min_cap_w: float
    idle_w: float
    t6: tuple[float, float, float, float]
    p4: tuple[float, float, float]
    demand: float
    throughput_error: float
    power_error: float
    demands: dict[str, float]


_POOLED_T6: Final = (0.1988, 0.8568, 1.0565, 4.40)
_POOLED_P4: Final = (0.9845, -0.0516, 4.76)
_POOLED_DEMANDS: Final = {"bert": 0.89, "resnet": 0.86, "deepspeech": 0.67, "shufflenet": 0.54, "ncf": 0.23}
# A GPU model that nobody fitted: parameters carried to an unseen model are off by up to this much.
_POOLED_THROUGHPUT_ERROR: Final = 0.15
_POOLED_POWER_ERROR: Final = 0.10


def _pooled(tdp_w: float, min_cap_w: float, idle_w: float, demand: float) -> _Fit:
    return _Fit(
        tdp_w=tdp_w,
        min_cap_w=min_cap_w,
        idle_w=idle_w,
        t6=_POOLED_T6,
        p4=_POOLED_P4,
        demand=demand,
        throughput_error=_POOLED_THROUGHPUT_ERROR,
        power_error=_POOLED_POWER_ERROR,
        demands=_POOLED_DEMANDS,
    )


_FITS: Final = {
    "A40": _Fit(
        tdp_w=300.0,
        min_cap_w=100.0,
        idle_w=31.0,
        t6=(0.2654, 0.8785, 0.7138, 10.26),
        p4=(0.8775, 0.0436, 7.61),
        demand=0.61,
        throughput_error=0.072,
        power_error=0.034,
        demands={"bert": 0.86, "resnet": 0.80, "deepspeech": 0.60, "shufflenet": 0.54, "ncf": 0.29},
    ),
    "V100": _Fit(
        tdp_w=250.0,
        min_cap_w=100.0,
        idle_w=28.0,
        t6=(0.07, 0.60, 1.5438, 2.29),
        p4=(1.1356, -0.0721, 3.66),
        demand=0.60,
        throughput_error=0.039,
        power_error=0.046,
        demands={"bert": 0.89, "resnet": 0.89, "deepspeech": 0.71, "shufflenet": 0.51, "ncf": 0.15},
    ),
    "RTX6000": _Fit(
        tdp_w=260.0,
        min_cap_w=100.0,
        idle_w=20.0,
        t6=(0.3526, 0.8425, 0.3468, 8.72),
        p4=(1.0234, -0.0306, 5.52),
        demand=0.64,
        throughput_error=0.054,
        power_error=0.040,
        demands={"bert": 0.93, "resnet": 0.89, "deepspeech": 0.70, "shufflenet": 0.58, "ncf": 0.25},
    ),
    "A100": _pooled(tdp_w=400.0, min_cap_w=100.0, idle_w=62.0, demand=0.64),
    "H100": _pooled(tdp_w=700.0, min_cap_w=200.0, idle_w=70.0, demand=0.74),
    "H200": _pooled(tdp_w=700.0, min_cap_w=200.0, idle_w=75.0, demand=0.74),
    "B200": _pooled(tdp_w=1000.0, min_cap_w=200.0, idle_w=140.0, demand=0.69),
    "RTX4000ADA": _Fit(
        tdp_w=130.0,
        min_cap_w=50.0,
        idle_w=10.0,
        t6=(0.0161, 1.0666, 2.0, 18.05),
        p4=(0.6253, 0.0849, 30.0),
        demand=0.70,
        throughput_error=0.089,
        power_error=0.032,
        demands={},
    ),
    "RTX5000ADA": _Fit(
        tdp_w=250.0,
        min_cap_w=100.0,
        idle_w=15.0,
        t6=(0.1058, 0.8023, 2.0, 5.28),
        p4=(0.7343, 0.0317, 30.0),
        demand=0.72,
        throughput_error=0.068,
        power_error=0.013,
        demands={},
    ),
    "RTXPRO6000": _Fit(
        tdp_w=600.0,
        min_cap_w=150.0,
        idle_w=20.0,
        t6=(0.0, 0.7438, 1.9421, 2.87),
        p4=(0.7294, 0.0129, 30.0),
        demand=0.55,
        throughput_error=0.026,
        power_error=0.014,
        demands={},
    ),
}
_UNKNOWN: Final = _pooled(tdp_w=300.0, min_cap_w=100.0, idle_w=30.0, demand=0.64)
_FAMILY_ALIASES: Final = {"ds2": "deepspeech", "shuffle": "shufflenet"}


def prior(model: str, *, min_cap_w: float, max_cap_w: float, workload: str | None = None) -> CapCurve:
    """The curve to start from, before a GPU of this machine has said anything about this workload.

    `model` is the board's own name ("NVIDIA A40"); unknown models get the pooled parameters and their
    wide error. `workload` is matched by family (bert, resnet, deepspeech, shufflenet, ncf).
    """
    fit = _fit_of(model)
    p0, s, gamma, n = fit.t6
    a, b, m = fit.p4
    return CapCurve(
        tdp_w=max_cap_w,
        min_cap_w=min_cap_w,
        idle_w=min(fit.idle_w * max_cap_w / fit.tdp_w, min_cap_w),
        demand_w=_demand(fit, workload) * max_cap_w,
        t6_p0=p0,
        t6_s=s,
        t6_gamma=gamma,
        t6_n=n,
        p4_a=a,
        p4_b=b,
        p4_m=m,
        throughput_error=fit.throughput_error,
        power_error=fit.power_error,
    )


def board_caps_w(model: str) -> tuple[float, float, float]:
    """(least cap, highest cap, idle draw) in watts that boards of `model` ship with."""
    fit = _fit_of(model)
    return fit.min_cap_w, fit.tdp_w, fit.idle_w


def _fit_of(model: str) -> _Fit:
    name = "".join(model.upper().replace("QUADRO", "").split()).replace("-", "").replace("GENERATION", "")
    if "RTX6000ADA" in name:  # another chip than the Quadro RTX 6000 that was measured
        return _UNKNOWN
    for known in sorted(_FITS, key=len, reverse=True):
        if known in name:
            return _FITS[known]
    return _UNKNOWN


def _demand(fit: _Fit, workload: str | None) -> float:
    name = (workload or "").lower()
    for alias, family in _FAMILY_ALIASES.items():
        if name.startswith(alias):
            name = family
    for family, demand in fit.demands.items():
        if family in name:
            return demand
    return fit.demand
