"""One self-contained HTML page on results and training runs, beside the papers' numbers; and the demo's page."""

from fsar.report.write import page, write_report

__all__ = ["page", "write_report"]
