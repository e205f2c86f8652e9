"""`facette review`: questions are shown and answered on a terminal, or shown on a page."""

from service.commands.reviewing.command import ReviewOptions, run_review

__all__ = ["ReviewOptions", "run_review"]
