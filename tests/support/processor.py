"""What tests need of this machine's processor."""

from __future__ import annotations

import pytest

from service.machine.cpu import adds_int8_exactly, cpu_flags

EXACT_INT8 = adds_int8_exactly(cpu_flags())

needs_exact_int8 = pytest.mark.skipif(
    not EXACT_INT8,
    reason="8-bit sums saturate on this CPU: it needs VNNI, AMX or Arm's dot product, "
    "and the export offers no int8 FaceNet here",
)
INT8 = pytest.param("int8", marks=needs_exact_int8)
# The variants of FaceNet that the export offers here.
OFFERED = ["int8", "fp16"] if EXACT_INT8 else ["fp16"]
