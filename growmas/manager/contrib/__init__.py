"""Growth policies for which the study in docs/policies.md found no gain, kept for comparison.

`GrowByNeed` (short trials) and `GrowByGain` (gradients of fresh units) reach the accuracy of
`GrowPolicy` at the same width, but take longer. They are supported and tested; the manager and the
other policies do not depend on them.
"""

from growmas.manager.contrib.gain import Gains, GrowByGain, candidate_gains
from growmas.manager.contrib.need import GrowByNeed

__all__ = ["Gains", "GrowByGain", "GrowByNeed", "candidate_gains"]
