"""The public names of histories; `growmas.lazy` reads this file."""

from growmas.history.reader import TopologyHistory as TopologyHistory
from growmas.history.tracker import TopologyTracker as TopologyTracker
