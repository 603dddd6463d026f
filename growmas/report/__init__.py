"""Reports of runs: one HTML file that needs nothing else, and its figures as SVG and PNG.

`run_summary` reads a run; one module per figure draws it; `page` puts the figures together.
Nothing here imports torch.
"""

from growmas.report.export import write_figures, write_report
from growmas.report.run_summary import GroupSummary, RunSummary, read_summary

__all__ = ["GroupSummary", "RunSummary", "read_summary", "write_figures", "write_report"]

RunFacts, read_facts = RunSummary, read_summary  # names of version 0.1
