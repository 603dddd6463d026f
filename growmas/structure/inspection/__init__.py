"""Inspection of units and plans; the network is as before afterwards.

- `saliency`: `unit_saliency`, `consumer_saliency`; the importance of units
- `explain`: `Explanation`, `GroupEffect`, `Cost`; the effect of a plan in numbers
- `dry_run`: `DryRun`, `Outcome`; a plan carried out, measured and rolled back
- `unit_graph`: `unit_graph`, units as a networkx graph
"""
