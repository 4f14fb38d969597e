"""Which jobs start, stop, pause and thaw, on which GPUs and at which cap: `scheduler.place` is the way in."""
