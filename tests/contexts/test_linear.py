"""Contexts from sums: equal to slow twins, and what they refuse."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import slow_classifiers as slow
import torch
from torch import Tensor, nn

import growmas as gm
from growmas import UNKNOWN, RidgeContext, SharedGaussianContext
from growmas.contexts.cross_validation import GRID
from growmas.errors import CheckpointError, ContextError, DataError, GrowmasWarning

KINDS = (RidgeContext, SharedGaussianContext)
SIZE = 6


def samples(number: int = 90, classes: int = 3, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features [N, 6] float64 of overlapping classes, and the class of each."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    owners = torch.arange(number) % classes
    mix, centres = normal(SIZE, SIZE), normal(classes, SIZE)
    return normal(number, SIZE) @ mix + 1.5 * centres[owners] + 3, owners


def learnt(context: Any, features: Tensor, owners: Tensor) -> Any:
    """Classes 0 and 1 are task "a", labels 0 and 1; class 2 is task "b", label 0; and so on."""
    for task, name in enumerate("abcde"[: int(owners.max()) // 2 + 1]):
        mine = owners // 2 == task
        context.update(name, features[mine], owners[mine] % 2)
    return context


def normalised(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).log_softmax(1)


class TestEqualsSlowTwin:
    @pytest.mark.parametrize("strength", [1e-5, 1e-2, 1.0, 20.0])
    def test_ridge(self, strength: float) -> None:
        features, owners = samples()
        context = learnt(RidgeContext(strength=strength), features, owners)
        inputs = samples(7, seed=1)[0]
        wanted = slow.ridge_logits(features, owners, inputs, strength)
        assert context.components == (("a", 0), ("a", 1), ("b", 0))
        torch.testing.assert_close(context.class_scores(inputs), normalised(wanted, 0.1))

    @pytest.mark.parametrize("strength", [1e-5, 1e-2, 1.0])
    def test_shared_gaussian(self, strength: float) -> None:
        features, owners = samples()
        context = learnt(SharedGaussianContext(strength=strength), features, owners)
        inputs = samples(7, seed=1)[0]
        wanted = slow.discriminant_logits(features, owners, inputs, strength)
        torch.testing.assert_close(context.class_scores(inputs), normalised(wanted, 5.0))

    def test_a_chosen_strength_gives_the_weights_of_the_same_one_set(self) -> None:
        features, owners = samples(40)
        for kind in KINDS:
            chosen = learnt(kind(), features, owners)
            same = learnt(kind(strength=chosen.strength), features, owners)
            assert chosen.strength in GRID
            torch.testing.assert_close(chosen.class_scores(features), same.class_scores(features))

    @pytest.mark.parametrize("number", [12, 90])
    def test_cross_validation(self, number: int) -> None:
        features, owners = samples(number)
        context = learnt(RidgeContext(), features, owners)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GrowmasWarning)
            errors = context.choice.errors
        for strength, error in errors.items():
            assert error == pytest.approx(slow.generalised_error(features, owners, strength))
        assert context.strength == min(errors, key=errors.__getitem__)

    def test_cross_validation_is_close_to_leaving_out_each_sample(self) -> None:
        features, owners = samples(60)
        errors = learnt(RidgeContext(), features, owners).choice.errors
        for strength in (1e-3, 1e-1, 1.0):
            left_out = slow.left_out_error(features, owners, strength)
            near = min(errors, key=lambda other: abs(math.log(other / strength)))
            assert errors[near] == pytest.approx(left_out, rel=0.05)

    @pytest.mark.parametrize("kind", KINDS)
    def test_per_task_the_tasks_are_the_components(self, kind: Any) -> None:
        features, owners = samples()
        context = learnt(kind("task", strength=0.1), features, owners)
        twin = slow.ridge_logits if kind is RidgeContext else slow.discriminant_logits
        wanted = normalised(twin(features, owners // 2, features, 0.1), context.temperature)
        assert context.components == (("a", None), ("b", None))
        torch.testing.assert_close(context.scores(features), wanted)
        torch.testing.assert_close(context.class_scores(features), wanted)

    @pytest.mark.parametrize("kind", KINDS)
    def test_novelty_is_a_distance_under_the_shared_covariance(self, kind: Any) -> None:
        features, owners = samples()
        context = learnt(kind(strength=0.2), features, owners)
        means = torch.stack([features[owners == c].mean(0) for c in range(3)])
        gaps = features - means[owners]
        within = gaps.T @ gaps / 90
        shrunk = 0.8 * within + 0.2 * within.trace() / SIZE * torch.eye(SIZE).double()
        each = features[:, None] - means
        squared = torch.einsum("ncd,de,nce->nc", each, torch.linalg.inv(shrunk), each)
        wanted = torch.special.gammainc(squared.new_tensor(SIZE / 2), squared.amin(1) / 2)
        torch.testing.assert_close(context.novelty(features), wanted)


@pytest.mark.parametrize("kind", KINDS)
class TestAnswers:
    def test_classes_add_up_to_tasks(self, kind: Any) -> None:
        features, owners = samples(100, 4)
        context = learnt(kind(strength=0.1), features, owners)
        classes = context.class_scores(features).exp()
        torch.testing.assert_close(classes.sum(1), torch.ones(100, dtype=torch.float64))
        tasks = torch.stack([classes[:, :2].sum(1), classes[:, 2:].sum(1)], 1)
        torch.testing.assert_close(context.scores(features).exp(), tasks)
        answers = context.class_answers(features)
        torch.testing.assert_close(answers(1).exp(), classes[:, 2:] / tasks[:, 1:])
        assert (context.select(features) == owners // 2).double().mean() > 0.7
        together = context.select(features[owners // 2 == 1], together=True)
        assert together.tolist() == [1] * 50

    def test_labels_never_seen_and_positions(self, kind: Any) -> None:
        features, owners = samples()
        context = kind(strength=0.1)
        context.update("a", features, owners * 2)
        answers = context.class_answers(features[:2])
        assert answers(0).shape == (2, 5)
        assert answers(0)[:, [1, 3]].isneginf().all()
        with pytest.raises(ContextError, match="no task at position 1"):
            answers(1)

    def test_images_float32_and_empty_batches(self, kind: Any) -> None:
        images, owners = torch.rand(30, 1, 4, 5), torch.arange(30) % 2
        context = kind(strength=0.1)
        context.update("none", images[:0], owners[:0])
        assert context.tasks == ()
        context.update("a", images, owners)
        assert torch.equal(context.scores(images.flatten(1)), context.scores(images))
        assert context.class_scores(images).dtype == torch.float64
        assert context.class_scores(images[:0]).shape == (0, 2)
        assert context.select(images[:0]).shape == (0,)

    def test_far_from_zero_nothing_is_lost(self, kind: Any) -> None:
        features, owners = samples()
        near = learnt(kind(strength=0.01), features, owners)
        far = learnt(kind(strength=0.01), features + 1e6, owners)
        torch.testing.assert_close(
            near.class_scores(features), far.class_scores(features + 1e6), rtol=1e-6, atol=1e-6
        )

    def test_features_of_a_frozen_network(self, kind: Any) -> None:
        network = nn.Sequential(nn.Linear(SIZE, 8), nn.Dropout(), nn.Linear(8, 5)).double().train()
        features, owners = samples()
        context = learnt(kind(strength=0.1, extract=network), features, owners)
        network.eval()
        plain = learnt(kind(strength=0.1), network(features).detach(), owners)
        found = context.class_scores(features)
        torch.testing.assert_close(found, plain.class_scores(network(features).detach()))
        assert not found.requires_grad
        with torch.no_grad():
            network[0].weight += 1
        with pytest.warns(GrowmasWarning, match="Sequential that makes the features changed"):
            context.scores(features)

    def test_repr(self, kind: Any) -> None:
        context = kind(extract=gm.RandomFilters(4))
        assert repr(context).startswith(f"{kind.__name__}(per='class', extract=RandomFilters(")
        assert "nothing seen yet" in repr(context)
        features, owners = samples()
        assert "2 tasks, 3 components, 90 samples of 6 features" in repr(
            learnt(kind(), features, owners)
        )

    def test_size_counts_each_number_once(self, kind: Any) -> None:
        features, owners = samples()
        context = learnt(kind(), features, owners)
        state = context.state_dict()
        numbers = (len(state["products"]), state["sums"].numel(), len(state["reference"]), 3)
        assert context.size == sum(numbers) == 21 + 18 + 6 + 3


@pytest.mark.parametrize("kind", KINDS)
class TestCalibration:
    def test_the_temperature_becomes_the_likeliest(self, kind: Any) -> None:
        features, owners = samples(300)
        context = learnt(kind(strength=0.1), features[:200], owners[:200])
        default, held_out = context.temperature, features[200:]
        labels = owners[200:] % 2
        for task, name in enumerate("ab"):
            mine = owners[200:] // 2 == task
            context.calibrate(held_out[mine], labels[mine], task=name)

        def loss(temperature: float) -> float:
            scores = context.class_scores(held_out) * (context.temperature / temperature)
            return -float(scores.log_softmax(1).gather(1, owners[200:, None]).mean())

        chosen = context.temperature
        assert chosen != default
        assert loss(chosen) < loss(default)
        assert loss(chosen) <= min(loss(chosen * 1.05), loss(chosen / 1.05)) + 1e-12

    def test_labels_alone_and_tasks_alone(self, kind: Any) -> None:
        features, owners = samples(200)
        contexts = [kind(strength=0.1) for _ in range(3)]
        for context in contexts:
            context.update("a", features, owners)
            context.update("b", features + 9, owners + 3)
        contexts[0].calibrate(features, owners)
        contexts[1].calibrate(features, owners, task="a")
        contexts[2].calibrate(features, task="a")
        assert contexts[0].temperature == contexts[1].temperature
        assert contexts[2].temperature != kind().temperature

    def test_without_either_the_temperature_stays(self, kind: Any) -> None:
        features, owners = samples()
        context = learnt(kind(strength=0.1), features, owners)
        context.calibrate(features)
        assert context.temperature == kind().temperature
        assert int(context.state_dict()["distances"].sum()) == 90

    def test_known_inputs_are_refused_as_promised(self, kind: Any) -> None:
        features, owners = samples(3000)
        context = learnt(kind(strength=0.1, threshold=0.95), features[:1000], owners[:1000])
        context.calibrate(features[1000:2000])
        alarms = (context.select(features[2000:]) == UNKNOWN).double().mean()
        assert 0.03 < alarms < 0.07
        far = features[:11] + 1000
        assert context.select(far).tolist() == [UNKNOWN] * 11
        assert context.select(torch.cat([features[:10], far]), together=True).unique() == UNKNOWN

    def test_too_few_samples_for_a_threshold(self, kind: Any) -> None:
        features, owners = samples()
        context = learnt(kind(strength=0.1, threshold=0.999), features, owners)
        context.calibrate(features)
        with pytest.raises(ContextError, match=r"90 calibrated samples, it needs 999"):
            context.select(features)

    def test_unknown_labels_and_tasks(self, kind: Any) -> None:
        features, owners = samples()
        context = learnt(kind(strength=0.1), features, owners)
        with pytest.raises(ContextError, match=r"of task 'b' with label 1 were seen yet"):
            context.calibrate(features, owners % 2, task="b")
        with pytest.raises(ContextError, match="of task 'z' were seen yet"):
            context.calibrate(features, task="z")
        with pytest.raises(DataError, match="one for each of the 90 samples"):
            context.calibrate(features, owners[:3])
        per_task = learnt(kind("task", strength=0.1), features, owners)
        with pytest.raises(ContextError, match="components are tasks, without labels"):
            per_task.calibrate(features, owners)


@pytest.mark.parametrize("kind", KINDS)
class TestState:
    def test_goes_on_as_if_nothing_had_happened(self, kind: Any) -> None:
        features, owners = samples()
        contexts = [kind(strength=0.1, threshold=0.9) for _ in range(2)]
        learnt(contexts[0], features, owners)
        contexts[0].calibrate(features, owners % 2)
        contexts[1].load_state_dict(contexts[0].state_dict())
        for _ in range(2):
            assert contexts[0].components == contexts[1].components
            assert contexts[0].temperature == contexts[1].temperature
            for ask in ("class_scores", "novelty", "select"):
                found = [getattr(context, ask)(features) for context in contexts]
                assert torch.equal(*found)
            for context in contexts:
                context.update("c", features, owners)

    def test_loading_does_not_share_what_is_added_to(self, kind: Any) -> None:
        features, owners = samples()
        context, other = learnt(kind(), features, owners), kind()
        other.load_state_dict(context.state_dict())
        before = context.class_scores(features)
        learnt(other, features + 1, owners)
        assert torch.equal(context.class_scores(features), before)

    def test_of_a_context_that_saw_nothing(self, kind: Any) -> None:
        features, owners = samples()
        other = learnt(kind(strength=0.1), features, owners)
        other.load_state_dict(kind().state_dict())
        assert other.tasks == ()
        other.update("a", torch.rand(9, 3), torch.arange(9) % 2)
        assert other.class_scores(torch.rand(2, 3)).shape == (2, 2)

    def test_of_other_settings(self, kind: Any) -> None:
        state = learnt(kind(), *samples()).state_dict()
        with pytest.raises(ContextError, match="per 'class' instead of 'task'"):
            kind("task").load_state_dict(state)
        with pytest.raises(ContextError, match=f"GaussianContext, not {kind.__name__}"):
            kind().load_state_dict(gm.GaussianContext().state_dict())
        del state["products"]
        with pytest.raises(ContextError, match="lacks products"):
            kind().load_state_dict(state)

    def test_in_a_checkpoint(self, kind: Any, tmp_path: Path) -> None:
        features, owners = samples()
        context, net = learnt(kind(), features, owners), nn.Linear(SIZE, 3)
        structure = gm.Structure(net, features[:2].float())
        gm.save(tmp_path / "ckpt", structure=structure, context=context)
        fresh, other = kind(), nn.Linear(SIZE, 3)
        gm.load(tmp_path / "ckpt", model=other, example_inputs=features[:2].float(), context=fresh)
        assert torch.equal(fresh.class_scores(features), context.class_scores(features))
        gm.save(tmp_path / "empty", structure=structure, context=kind())
        gm.load(
            tmp_path / "empty", model=nn.Linear(SIZE, 3), example_inputs=features[:2].float(),
            context=fresh,
        )  # fmt: skip
        assert fresh.tasks == ()
        with pytest.raises(CheckpointError, match="does not fit"):
            gm.load(tmp_path / "ckpt", model=nn.Linear(SIZE, 3),
                    example_inputs=features[:2].float(), context=kind("task"))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
class TestRefusals:
    def test_settings(self, kind: Any) -> None:
        with pytest.raises(ContextError) as caught:
            kind("both", extract=3, strength=0, grid=[], temperature=-1, threshold=2)
        for name in ("per", "extract", "strength", "grid", "temperature", "threshold"):
            assert name in str(caught.value)
        for grid in (0.1, [math.inf], ["x"], [True]):
            with pytest.raises(ContextError, match="grid"):
                kind(grid=grid)

    @pytest.mark.parametrize("ask", ["scores", "select", "class_scores", "novelty", "calibrate"])
    def test_asked_before_any_task(self, kind: Any, ask: str) -> None:
        with pytest.raises(ContextError, match=f"{kind.__name__} has seen no task yet"):
            getattr(kind(), ask)(torch.rand(2, 3))
        with pytest.raises(ContextError, match=f"{kind.__name__} has seen no task yet"):
            _ = kind().strength

    def test_no_labels_where_they_are_needed(self, kind: Any) -> None:
        context = kind()
        with pytest.raises(ContextError, match=r"needs labels: update\(task, inputs, labels\)"):
            context.update("a", torch.rand(4, 3))
        assert context.tasks == ()

    @pytest.mark.parametrize(
        "labels",
        [torch.rand(4), torch.arange(3), torch.arange(4) - 1, [0, 1, 0, 1], torch.ones(4).bool()],
    )
    def test_what_are_no_labels(self, kind: Any, labels: Any) -> None:
        context = kind()
        with pytest.raises(DataError, match="labels must be"):
            context.update("a", torch.rand(4, 3), labels)
        assert context.tasks == ()

    def test_one_class_only(self, kind: Any) -> None:
        context = kind()
        context.update("a", torch.rand(9, 3), torch.zeros(9).long())
        with pytest.raises(ContextError, match="has seen class 0 of task 'a' alone"):
            context.class_scores(torch.rand(2, 3))
        context = kind("task")
        context.update("a", torch.rand(9, 3))
        with pytest.raises(ContextError, match="has seen task 'a' alone"):
            context.scores(torch.rand(2, 3))

    def test_too_few_samples(self, kind: Any) -> None:
        context = kind()
        context.update("a", torch.rand(2, 3), torch.arange(2))
        with pytest.raises(ContextError, match="2 samples of 2 components are too few"):
            context.class_scores(torch.rand(2, 3))

    def test_features_that_do_not_differ(self, kind: Any) -> None:
        context = kind(strength=0.1)
        context.update("a", torch.full((6, 3), 0.1), torch.arange(6) % 2)
        with pytest.raises(ContextError, match="all samples have the same features"):
            context.class_scores(torch.rand(2, 3))

    def test_samples_of_a_component_that_do_not_differ(self, kind: Any) -> None:
        context = kind(strength=0.1)
        owners = torch.arange(6) % 2
        context.update("a", owners[:, None] + torch.zeros(6, 3), owners)
        with pytest.raises(ContextError, match="of each component are all alike"):
            context.novelty(torch.rand(2, 3))

    def test_features_of_another_size(self, kind: Any) -> None:
        context = learnt(kind(), *samples())
        with pytest.raises(DataError, match="7 features"):
            context.update("z", torch.rand(2, 7), torch.arange(2))
        with pytest.raises(DataError, match="7 features"):
            context.class_scores(torch.rand(2, 7))
        other = kind()
        other.update("a", torch.rand(4, 7), torch.arange(4) % 2)
        with pytest.raises(ContextError, match="size 7 instead of 6"):
            context.merge(other)
        assert "z" not in context.tasks

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, kind: Any, value: float) -> None:
        context = learnt(kind(), *samples())
        before = context.state_dict()
        broken = samples()[0]
        broken[5, 2] = value
        with pytest.raises(DataError, match="NaN or infinite"):
            context.update("a", broken, torch.arange(90) % 2)
        assert torch.equal(context.state_dict()["products"], before["products"])

    def test_merged_with_something_else(self, kind: Any) -> None:
        for other in (gm.GaussianContext(), KINDS[kind is RidgeContext](), "x"):
            with pytest.raises(ContextError, match=f"expected a {kind.__name__}"):
                kind().merge(other)
        with pytest.raises(ContextError, match="per 'task' instead of 'class'"):
            kind().merge(kind("task"))

    def test_merged_with_itself(self, kind: Any) -> None:
        context = learnt(kind(), *samples())
        before = context.state_dict()
        with pytest.raises(ContextError, match="would count twice: merge the context of another"):
            context.merge(context)
        assert context.state_dict()["counts"] == before["counts"]

    def test_classes_where_there_are_tasks(self, kind: Any) -> None:
        context = learnt(kind("task"), *samples())
        with pytest.raises(ContextError, match="class_answers needs classes"):
            context.class_answers(torch.rand(2, SIZE))

    @pytest.mark.parametrize("temperature", [0, -1.0, math.nan, "x"])
    def test_temperatures(self, kind: Any, temperature: Any) -> None:
        context = learnt(kind(), *samples())
        with pytest.raises(ContextError, match="temperature"):
            context.class_answers(torch.rand(2, SIZE), temperature=temperature)


class TestGridsWithoutAMinimum:
    def test_labels_that_say_nothing_want_more_than_the_grid_has(self) -> None:
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(60, 20, generator=generator)
        context = RidgeContext()
        context.update("a", features, torch.randint(2, (60,), generator=generator))
        with pytest.warns(GrowmasWarning, match="upper edge of the grid, at strength 1,"):
            assert context.strength == 1

    def test_a_grid_of_strong_ones(self) -> None:
        context = learnt(RidgeContext(grid=(2.0, 3.0)), *samples(900))
        with pytest.warns(GrowmasWarning, match=r"lower edge .* strength 2, .* grid= that"):
            assert context.strength == 2

    def test_a_grid_of_weak_ones(self) -> None:
        context = learnt(RidgeContext(grid=[1e-7, 1e-6]), *samples(900))
        with pytest.warns(GrowmasWarning, match="upper edge of the grid"):
            assert context.strength == 1e-6

    def test_where_the_strength_makes_no_difference_the_wide_grid_is_enough(self) -> None:
        features, owners = samples(9000)
        features = features - torch.nn.functional.one_hot(owners, SIZE) * 40
        assert learnt(RidgeContext(), features, owners).strength < 1e-4
        assert learnt(RidgeContext(grid=(3.0,)), features, owners).strength == 3
