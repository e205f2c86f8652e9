"""Latencies in an HDR histogram: microseconds, three digits, and the shares that are shown."""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

_HIGHEST_US = 3_600_000_000
_DIGITS = 3
_SHARES = (50.0, 90.0, 95.0, 99.0, 99.9)


class Latencies:
    """A histogram of durations from 1 us to an hour."""

    __slots__ = ("_histogram",)

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_US, _DIGITS)

    @classmethod
    def decoded(cls, encoded: Iterable[str]) -> Latencies:
        """The sum of histograms that `encoded` returned."""
        found = cls()
        for each in encoded:
            if each:
                found._histogram.decode_and_add(each)
        return found

    def encoded(self) -> str:
        """The histogram in the HDR format, compressed and in base64."""
        return str(self._histogram.encode().decode("ascii"))

    def record(self, seconds: float) -> None:
        """Count one duration, of a microsecond at least."""
        self._histogram.record_value(min(max(round(seconds * 1e6), 1), _HIGHEST_US))

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def summary_ms(self) -> dict[str, float]:
        """p50 to p99.9 and the largest, in ms; empty where nothing was recorded."""
        if not self.count:
            return {}
        found = self._histogram.get_percentile_to_value_dict(list(_SHARES))
        shown = {f"p{share:g}": round(found[share] / 1e3, 3) for share in _SHARES}
        return {**shown, "max": round(self._histogram.get_max_value() / 1e3, 3)}
