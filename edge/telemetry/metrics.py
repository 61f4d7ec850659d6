"""Metrics: every name and label is defined here, once.

The hot path counts with plain attributes: ask for a child once (`meters = metrics.route(route, release)`), keep it, and
write ``meters.events.value += 1``. Reading is the slow side: `snapshot` gives numbers that can be sent to another
process, `merge` adds those of several workers, `render` writes the Prometheus text format.
"""
