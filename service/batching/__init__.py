"""Micro-batching: items of concurrent callers run in shared calls, on a bounded pool of workers."""

from service.batching.admission import Admission, AdmissionLimits
from service.batching.batcher import BatchPolicy, BatchReport, BatchSizeError, MicroBatcher
from service.batching.deference import Deference
from service.batching.fairness import FairShare
from service.batching.gate import Gate, InputMemory
from service.batching.pool import WorkerPool
from service.batching.ticket import Lane, Priority, Ticket, free_ticket

__all__ = [
    "Admission",
    "AdmissionLimits",
    "BatchPolicy",
    "BatchReport",
    "BatchSizeError",
    "Deference",
    "FairShare",
    "Gate",
    "InputMemory",
    "Lane",
    "MicroBatcher",
    "Priority",
    "Ticket",
    "WorkerPool",
    "free_ticket",
]
