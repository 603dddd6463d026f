"""Reports of runs and sweeps: one HTML file that needs nothing else, and figures as SVG and PNG.

`run_summary` reads a run; one module per figure draws it; `page` puts the figures together.
`study_summary`, `study_figures` and `study_page` do the same for settings over seeds.
Nothing here imports torch.
"""

from growmas.report.export import write_figures, write_report
from growmas.report.run_summary import GroupSummary, RunSummary, read_summary
from growmas.report.study_summary import SettingSummary, StudySummary, read_study

__all__ = [
    "GroupSummary",
    "RunSummary",
    "SettingSummary",
    "StudySummary",
    "read_study",
    "read_summary",
    "write_figures",
    "write_report",
]

RunFacts, read_facts = RunSummary, read_summary  # names of version 0.1
