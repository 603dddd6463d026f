import pytest
import torch

from growmas.data import load_source, own_heads, permuted_stream, sources_stream, split_stream


def split(scenario, **options):
    return split_stream(
        load_source("digits"), tasks=5, scenario=scenario, generator=torch.Generator(), **options
    )


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_outputs_of_own_heads_stand_for_the_labels_asked_for(scenario, shuffle):
    asked = split(scenario, shuffle_classes=shuffle)
    learnt = own_heads(asked)
    assert learnt.head_sizes == (2,) * 5
    for old, new in zip(asked.tasks, learnt.tasks, strict=True):
        assert (new.name, new.index, new.head) == (old.name, old.index, old.index)
        meaning = torch.tensor(learnt.labels[new.head])
        for half in ("train", "test"):
            given, found = getattr(old, half), getattr(new, half)
            assert found.labels.max() == 1
            assert torch.equal(meaning[found.labels], given.labels)
            assert torch.equal(found.inputs, given.inputs)


def test_a_stream_whose_tasks_are_known_has_own_heads_already():
    stream = split("task")
    assert own_heads(stream) is stream
    assert stream.labels == ((0, 1),) * 5


def test_permutations_share_the_meaning_of_their_labels():
    stream = permuted_stream(
        load_source("digits"), tasks=3, scenario="domain", generator=torch.Generator()
    )
    learnt = own_heads(stream)
    assert (stream.head_sizes, learnt.head_sizes) == ((10,), (10, 10, 10))
    assert learnt.labels == (tuple(range(10)),) * 3


def test_classes_of_later_sources_keep_their_numbers():
    sources = [load_source("digits"), load_source("shapes")]
    learnt = own_heads(sources_stream(sources, scenario="class", limit=3))
    assert learnt.labels == (tuple(range(10)), tuple(range(10, 20)))
    assert int(learnt.tasks[1].train.labels.max()) == 9
