"""A load client in a process of its own: closed loops for capacity, open loops for latency."""

from bench.load.plan import Answer, Call, Outcome, Phase, merged
from bench.load.runner import run, run_together

__all__ = ["Answer", "Call", "Outcome", "Phase", "merged", "run", "run_together"]
