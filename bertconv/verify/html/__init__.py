"""The report that a person looks at: one page, no network; `html_report(parity)` makes it."""

from bertconv.verify.html.page import html_report

__all__ = ["html_report"]
