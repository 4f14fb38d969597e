"""Keeps caps from trembling, and a thaw from waiting for watts. Pure."""

from __future__ import annotations

from dataclasses import replace

from scheduler.decision import Decision, JobCap, Resume
from scheduler.snapshot import Snapshot

RAISE_AT_LEAST_W = 3.0  # one percent of a 300 W board, about the noise of its reading


def steady(decision: Decision, snapshot: Snapshot) -> Decision:
    """The decision with small raises held at the cap in force. A lowering is never held back."""
    return replace(decision, caps=tuple(_held(cap, snapshot) for cap in decision.caps))


def thawed_as_they_are(decision: Decision, snapshot: Snapshot) -> Decision:
    """Frozen jobs resume at the cap in force, which needs no watts; the cap step then raises them.

    Otherwise a thaw would wait for others to settle lower, while those see no reason to.
    """

    def as_it_is(resume: Resume) -> Resume:
        # An answer may be older than the picture: its job may have ended, its GPU may be gone.
        run = next((view.job.run for view in snapshot.jobs if view.job.id == resume.job_id), None)
        own = run.gpu_uuids if run is not None else ()
        caps_w = [gpu.confirmed_cap_w for gpu in snapshot.gpus if gpu.uuid in own]
        known = [cap_w for cap_w in caps_w if cap_w is not None]
        return replace(resume, cap_w=min([resume.cap_w, *known]))

    return replace(decision, resumes=tuple(as_it_is(resume) for resume in decision.resumes))


def _held(cap: JobCap, snapshot: Snapshot) -> JobCap:
    run = snapshot.job(cap.job_id).job.run
    if run is None:
        return cap
    gpus = [gpu for gpu in snapshot.gpus if gpu.uuid in run.gpu_uuids]
    now_w = [gpu.confirmed_cap_w for gpu in gpus]
    if not gpus or any(w is None for w in now_w):
        return cap
    lowest_w = min(w for w in now_w if w is not None)
    highest_w = max(w for w in now_w if w is not None)
    small = lowest_w == highest_w <= cap.cap_w < lowest_w + RAISE_AT_LEAST_W
    # The last watts up to the board's own top are worth having: a job that gives nothing away reaches it.
    at_top = cap.cap_w >= gpus[0].max_cap_w
    return replace(cap, cap_w=lowest_w) if small and not at_top else cap
