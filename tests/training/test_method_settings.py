"""Methods built with wrong settings, and asked what they cannot answer: one clear message each."""

import pytest
import torch
from small_streams import stream_of, structure_of

import growmas as gm
from growmas.errors import ConfigError, GrowmasError, RunError

STREAM = stream_of("task")
CLASSES = stream_of("class")

CASES = [
    (lambda s: gm.EWC(s, strength=-1), "strength=-1: expected a number that is 0 or more"),
    (lambda s: gm.EWC(s, fisher="true"), "fisher='true': expected one of 'model', 'label'"),
    (lambda s: gm.OnlineEWC(s, decay=0), "decay=0: expected a number above 0, up to 1"),
    (lambda s: gm.OnlineEWC(s, normalize="sum"), "normalize='sum': expected one of None, 'mean'"),
    (lambda s: gm.SynapticIntelligence(s, damping=0), "damping=0: expected a number above 0"),
    (lambda s: gm.L2Init(s, strength=float("nan")), "strength=nan: expected a number that is 0"),
    (lambda s: gm.LwF(s, stream=STREAM, temperature=-2), "temperature=-2: expected a number above"),
    (lambda s: gm.ER(s, memory=0), "memory=0: expected a whole number >= 1"),
    (lambda s: gm.ER(s, memory=2.5), "memory=2.5: expected a whole number >= 1"),
    (lambda s: gm.DERpp(s, alpha="1", replayed=0), "alpha='1': .*\nreplayed=0: expected a whole"),
    (lambda s: gm.PackNet(s, prune=1.0), "prune=1.0: expected a number between 0 and 1"),
    (lambda s: gm.PackNet(s, after=0), "after=0: expected a whole number >= 1, or None"),
    (lambda s: gm.HAT(s, stream=STREAM, scale=0), "scale=0: expected a number that is 1 or more"),
    (lambda s: gm.ICaRL(s, stream=STREAM), "expected a stream of scenario class, got task"),
    (lambda s: gm.ICaRL(s, stream=CLASSES, memory=0), "size=0: expected a whole number >= 1"),
    (lambda s: gm.ICaRL(s, stream=CLASSES, memory=5), "memory=5: expected at least 6, an exemplar"),
    (lambda s: gm.SLDA(s, stream=STREAM, strength=2), "strength=2: expected a number above 0, up"),
    (lambda s: gm.RanPAC(s, stream=STREAM, projections=1), "projections=1: expected a whole"),
    (lambda s: gm.Reservoir(-1), "size=-1: expected a whole number >= 1"),
]


@pytest.mark.parametrize(("make", "message"), CASES)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make(structure_of(STREAM))


@pytest.mark.parametrize("kind", [gm.Method, gm.EWC, gm.ER, gm.PackNet, gm.L2Init])
def test_a_network_in_place_of_its_structure_is_refused(kind):
    with pytest.raises(ConfigError, match="expected a Structure, such as Structure\\(model, inp"):
        kind(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("make", [
    lambda s: gm.PackNet(s), lambda s: gm.HAT(s, stream=STREAM),
])  # fmt: skip
def test_methods_with_parts_for_each_task_do_not_answer_without_it(make):
    method = make(structure_of(STREAM))
    with pytest.raises(RunError, match="the task is unknown: learn a stream of scenario task"):
        method.predict(STREAM.tasks[0].test.inputs, None)


def test_classifiers_that_saw_nothing_say_so():
    method = gm.SLDA(structure_of(STREAM), stream=STREAM)
    with pytest.raises(GrowmasError, match="has seen no task yet"):
        method.predict(STREAM.tasks[0].test.inputs, STREAM.tasks[0])
