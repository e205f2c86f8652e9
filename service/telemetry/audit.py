"""The audit trail: a line for every write, and for every read of a picture."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from service.domain.keys import OPERATOR, Principal

_logger = logging.getLogger("facette.audit")
_own_logger = logging.getLogger(__name__)

_REPORT_EVERY_S: Final = 60.0


class Audit(Protocol):
    """Records what callers do, by ids alone: never a name, a label or a picture."""

    def write(
        self,
        principal: Principal,
        request_id: str,
        tenant_id: str | None,
        action: str,
        **ids: object,
    ) -> None:
        """Record one action that has just been done.

        Args:
            tenant_id: the tenant whose data it was; None where it was none's.
            action: what was done to what, like "image.insert".
            ids: what it was done to, by name.
        """


class NoAudit:
    """Records nothing."""

    def write(
        self,
        principal: Principal,
        request_id: str,
        tenant_id: str | None,
        action: str,
        **ids: object,
    ) -> None:
        """Do nothing."""


class LoggedAudit:
    """Records in the log of the service, whatever level the log has."""

    def __init__(self) -> None:
        _logger.setLevel(logging.INFO)

    def write(
        self,
        principal: Principal,
        request_id: str,
        tenant_id: str | None,
        action: str,
        **ids: object,
    ) -> None:
        """Write a record with these fields; the log writes it as text or JSON."""
        fields = {**_fields(principal, request_id, tenant_id), "action": action, **ids}
        _logger.info("audit", extra={"fields": fields})


class FileAudit:
    """Records as lines of JSON at the end of a file that only its owner can read.

    The file is opened for each line. So a file that was moved away by a rotation gets no more
    lines, and the processes of a service write whole lines between each other's.

    Args:
        path: of the file, which is created where it is missing.
        clock: seconds, monotonic.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lost = 0
        self._report_at = 0.0

    def write(
        self,
        principal: Principal,
        request_id: str,
        tenant_id: str | None,
        action: str,
        **ids: object,
    ) -> None:
        """Append one line; where that fails, the log says so, once a minute.

        The action is done by now: an error would tell the caller that it is not.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, **_fields(principal, request_id, tenant_id), "action": action, **ids}
        data = json.dumps(line, ensure_ascii=False, default=str).encode(errors="replace") + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                if os.write(descriptor, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
        except OSError as error:
            self._note_loss(error)

    def _note_loss(self, error: OSError) -> None:
        self._lost += 1
        if self._clock() >= self._report_at:
            self._report_at = self._clock() + _REPORT_EVERY_S
            _own_logger.error(
                "lines of the audit trail could not be written: %s",
                error.strerror,
                extra={"fields": {"file": self._path, "lines": self._lost}},
            )
            self._lost = 0


def open_audit(destination: str) -> Audit:
    """The audit trail of a destination: "log", "off", or the path of a file."""
    if destination == "off":
        return NoAudit()
    return LoggedAudit() if destination == "log" else FileAudit(destination)


def _fields(principal: Principal, request_id: str, tenant_id: str | None) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "key_id": "token" if principal is OPERATOR else principal.key_id,
        "tenant": tenant_id,
    }
