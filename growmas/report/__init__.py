"""A report of runs: one HTML file that needs nothing else, and its figures as SVG and PNG.

`facts` reads what a report tells; one module per figure draws it; `page` writes it up. Nothing
here imports torch.
"""

from growmas.report.export import write_figures, write_report
from growmas.report.facts import GroupFacts, RunFacts, read_facts

__all__ = ["GroupFacts", "RunFacts", "read_facts", "write_figures", "write_report"]
