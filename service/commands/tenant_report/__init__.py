"""`facette report`: a tenant on one page of HTML, from its numbers to its doubtful faces."""

from service.commands.tenant_report.command import ReportSettings, run_tenant_report

__all__ = ["ReportSettings", "run_tenant_report"]
