"""What owners say of how long their jobs will run, which is not how long they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from power.arrays import Bools, Floats
from scheduler.simulation.model import BadInput
from scheduler.simulation.trace import MOST_S

MOST_SIGMA: Final = 2.0  # one guess in three then misses by more than a factor of seven


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateHabits:
    """How well and how often owners guess.

    A guess is the true running time times exp(sigma x normal): as often too long as too short, so that its
    median is right and its mean too long by exp(sigma^2 / 2). With sigma 0.3 two guesses in three lie between
    0.74 and 1.35 times the truth; 0 = exact.

    This is an assumption: the job traces at hand carry no guesses to fit it to. It stands for guesses that
    are not held against anybody. Where a scheduler kills what runs longer than requested, requests are known
    to be far too long (Mu'alem and Feitelson, IEEE TPDS 12(6), 2001), and without that threat people guess
    better but not well (Lee et al., JSSPP 2004); so results are to be shown for several sigmas.

    Raises:
        BadInput: sigma outside 0..2, or a share outside 0..1.
    """

    sigma: float = 0.3
    silent_share: float = 0.0  # of the jobs, give no guess

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= MOST_SIGMA:
            raise BadInput(f"estimate error: must be from 0 to {MOST_SIGMA:g}, got {self.sigma}")
        if not 0 <= self.silent_share <= 1:
            raise BadInput(f"no estimate: must be a share from 0 to 1, got {self.silent_share}")


def estimates_of(
    work_s: Floats, needed: Bools, habits: EstimateHabits, *, errors: Floats, silence: Floats
) -> list[float | None]:
    """A guess in seconds per job, at most the longest time that a trace may hold; None = none given.

    Args:
        needed: per job, True where it can be planned by nothing else (pausable with a deadline): such a job
            always gives one.
        errors: per job, normal with mean 0 and deviation 1.
        silence: per job, uniform in 0..1.
    """
    guesses = np.minimum(work_s * np.exp(habits.sigma * errors), MOST_S)
    given = needed | (silence >= habits.silent_share)
    return [
        guess if is_given else None for guess, is_given in zip(guesses.tolist(), given.tolist(), strict=True)
    ]
