"""Micro-batching: many callers, few workers, one call for what waits together."""

from service.batching.batcher import BatchReport, BatchSizeError, MicroBatcher
from service.batching.pool import WorkerPool

__all__ = ["BatchReport", "BatchSizeError", "MicroBatcher", "WorkerPool"]
