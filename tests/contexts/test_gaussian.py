"""Tasks told apart by Gaussians of their inputs."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2, multivariate_normal
from torch import Tensor, nn

from growmas import UNKNOWN, EnergyContext, GaussianContext
from growmas.errors import ContextError, DataError


def blobs(tasks: int = 3, samples: int = 60, size: int = 12) -> list[Tensor]:
    """Inputs [N, F] float64 of each task, with a mean and a covariance of its own."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mixes = [normal(size, size) for _ in range(tasks)]
    return [normal(samples, size) @ mix + 2 * normal(size) for mix in mixes]


def learnt(context: GaussianContext, batches: list[Tensor]) -> GaussianContext:
    for task, batch in enumerate(batches):
        context.update(f"task {task}", batch, torch.arange(len(batch)) % 2)
    return context


def reference(
    context: GaussianContext,
    rows: Tensor,
    inputs: Tensor,
    shrinkage: float = 0.1,
    of_task: tuple[Tensor, ...] = (),
) -> np.ndarray:
    """Log-density of inputs under the shrunk Gaussian of rows, projected beforehand.

    It is shrunk towards the mean variance of all `of_task`, the rows of each class of the task.
    """
    matrix = context.state_dict()["matrix"]
    rows, inputs, *of_task = (
        x if matrix is None else x @ matrix for x in (rows, inputs, *(of_task or (rows,)))
    )
    covariance = np.cov(rows.numpy().T, bias=True)
    spread = [len(part) * part.numpy().var(0).mean() for part in of_task]
    sphere = np.eye(len(covariance)) * sum(spread) / sum(map(len, of_task))
    shrunk = (1 - shrinkage) * covariance + shrinkage * sphere
    return multivariate_normal(rows.mean(0).numpy(), shrunk).logpdf(inputs.numpy())


@pytest.mark.parametrize("features", [5, 12, 100])
@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 1.0])
def test_likelihoods_equal_scipy(features: int, shrinkage: float) -> None:
    batches = blobs()
    context = learnt(GaussianContext(features, shrinkage=shrinkage, seed=4), batches)
    inputs = torch.cat(batches)[::7]
    wanted = np.stack([reference(context, batch, inputs, shrinkage) for batch in batches], 1)
    np.testing.assert_allclose(context.log_likelihood(inputs).numpy(), wanted, rtol=1e-10)
    wanted -= np.logaddexp.reduce(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(context.scores(inputs).numpy(), wanted, rtol=1e-10, atol=1e-10)


def test_classes_add_up_to_tasks() -> None:
    batches = blobs()
    context = GaussianContext(5, "class")
    labels = [torch.tensor([7, 3, 3]).repeat(20), torch.tensor([0]).repeat(60)]
    for task, (batch, label) in enumerate(zip(batches, labels, strict=False)):
        context.update(task, batch, label)
    assert context.components == ((0, 3), (0, 7), (1, 0))
    inputs = torch.cat(batches)[::7]
    parts = [batches[0][labels[0] == 3], batches[0][labels[0] == 7], batches[1]]
    mates = (parts[:2], parts[:2], parts[2:])
    joint = np.stack([
        reference(context, part, inputs, of_task=tuple(of_task))
        for part, of_task in zip(parts, mates, strict=True)
    ], 1)  # fmt: skip
    joint += np.log([2 / 3, 1 / 3, 1])
    joint -= np.logaddexp.reduce(joint, axis=1, keepdims=True)
    np.testing.assert_allclose(context.class_scores(inputs).numpy(), joint, rtol=1e-9, atol=1e-9)
    tasks = np.stack([np.logaddexp(joint[:, 0], joint[:, 1]), joint[:, 2]], 1)
    np.testing.assert_allclose(context.scores(inputs).numpy(), tasks, rtol=1e-9, atol=1e-9)


def test_single_samples_and_batches_that_come_together() -> None:
    batches = blobs(samples=200)
    context = learnt(GaussianContext(), batches)
    for task, batch in enumerate(batches):
        assert (context.select(batch) == task).double().mean() > 0.9
    far = torch.cat([batches[1][:3], batches[2][:1]])
    chosen = context.select(far, together=True)
    assert chosen.tolist() == [int(context.scores(far).sum(0).argmax())] * 4
    assert chosen.dtype == torch.int64


def test_images_and_flat_inputs_are_the_same() -> None:
    images = torch.rand(30, 1, 4, 5)
    context = GaussianContext(6)
    context.update(0, images)
    assert torch.equal(context.scores(images.flatten(1)), context.scores(images))
    assert context.scores(images).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    low = [batch.to(dtype) for batch in blobs()]
    exact = learnt(GaussianContext(), [batch.double() for batch in low])
    found = learnt(GaussianContext(), low)
    torch.testing.assert_close(found.log_likelihood(low[0]), exact.log_likelihood(low[0].double()))


def test_far_from_zero_nothing_is_lost() -> None:
    batches = blobs()
    near, far = (learnt(GaussianContext(), [b + at for b in batches]) for at in (0.0, 1e6))
    torch.testing.assert_close(
        far.log_likelihood(batches[0] + 1e6), near.log_likelihood(batches[0]), rtol=1e-6, atol=1e-6
    )


def test_features_of_ones_own() -> None:
    network = nn.Linear(12, 3).double()
    context = GaussianContext(extract=lambda batch: network(batch["x"]))
    for task, batch in enumerate(blobs()):
        context.update(task, {"x": batch})
    plain = GaussianContext()
    for task, batch in enumerate(blobs()):
        plain.update(task, network(batch).detach())
    batch = blobs()[1]
    found = context.scores({"x": batch})
    assert torch.equal(found, plain.scores(network(batch).detach()))
    assert not found.requires_grad


def test_the_projection_comes_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    contexts = [learnt(GaussianContext(5, seed=seed), blobs()) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    matrices = [context.state_dict()["matrix"] for context in contexts]
    assert torch.equal(matrices[0], matrices[1])
    assert not torch.equal(matrices[0], matrices[2])


@pytest.mark.parametrize("samples", [1, 4])
def test_a_task_without_spread_is_a_sphere_as_wide_as_the_others(samples: int) -> None:
    (batch, *_), alone = blobs(), torch.full((samples, 12), 0.1)
    context = GaussianContext()
    for part in alone:
        context.update("alone", part[None])
    sphere = multivariate_normal(np.full(12, np.float32(0.1)), np.eye(12))
    inputs = batch[:5]
    found = context.log_likelihood(inputs)[:, 0].numpy()
    np.testing.assert_allclose(found, sphere.logpdf(inputs.numpy()), rtol=1e-6)
    context.update("other", batch)
    width = np.trace(np.cov(batch.numpy().T, bias=True)) / 12
    sphere = multivariate_normal(np.full(12, np.float32(0.1)), np.eye(12) * width)
    found = context.log_likelihood(inputs)[:, 0].numpy()
    np.testing.assert_allclose(found, sphere.logpdf(inputs.numpy()), rtol=1e-6)


def test_fewer_samples_than_dimensions() -> None:
    few = [batch[:4] for batch in blobs()]
    context = learnt(GaussianContext(), few)
    assert context.scores(torch.cat(few)).isfinite().all()
    assert context.select(torch.cat(few)).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_empty_batches_change_nothing() -> None:
    context = GaussianContext(threshold=0.9)
    context.update("nothing", torch.rand(0, 12))
    assert context.tasks == ()
    learnt(context, blobs())
    for together in (False, True):
        assert context.select(torch.rand(0, 12), together=together).shape == (0,)
    assert context.scores(torch.rand(0, 12)).shape == (0, 3)


class TestUnlikeAll:
    def test_novelty_of_gaussian_inputs_is_uniform(self) -> None:
        generator = torch.Generator().manual_seed(0)
        context = GaussianContext(shrinkage=0.0)
        context.update(0, torch.randn(4000, 6, generator=generator))
        inputs = torch.randn(2000, 6, generator=generator)
        quantiles = torch.quantile(context.novelty(inputs), torch.tensor([0.1, 0.5, 0.9]).double())
        torch.testing.assert_close(
            quantiles, torch.tensor([0.1, 0.5, 0.9]).double(), atol=0.03, rtol=0
        )
        squared = -2 * context.log_likelihood(inputs)[:, 0]
        squared -= context._mixture._densities(inputs.device)[0].log_norm
        np.testing.assert_allclose(context.novelty(inputs).numpy(), chi2.cdf(squared.numpy(), 6))

    def test_calibration_keeps_its_promise_where_inputs_are_not_gaussian(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def heavy(samples: int, at: float) -> Tensor:
            scale = torch.rand(samples, 1, generator=generator).pow(-0.5)
            return at + scale * torch.randn(samples, 8, generator=generator)

        context = GaussianContext(threshold=0.95)
        for task, at in enumerate((0.0, 30.0)):
            context.update(task, heavy(1000, at))
            context.calibrate(heavy(1000, at))
        inputs = torch.cat([heavy(2000, 0.0), heavy(2000, 30.0)])
        alarms = (context.select(inputs) == UNKNOWN).double().mean()
        assert 0.03 < alarms < 0.07
        far = torch.randn(100, 8, generator=generator) - 60
        assert (context.select(far) == UNKNOWN).all()

    def test_a_batch_is_unlike_all_where_most_of_its_samples_are(self) -> None:
        batches = blobs(samples=200)
        context = learnt(GaussianContext(threshold=0.999), batches)
        far = batches[0] + 1000
        few, many = torch.cat([batches[0][:6], far[:5]]), torch.cat([batches[0][:5], far[:6]])
        assert UNKNOWN not in context.select(few, together=True)
        assert context.select(many, together=True).tolist() == [UNKNOWN] * 11

    def test_without_a_threshold_nothing_is(self) -> None:
        context = learnt(GaussianContext(), blobs())
        assert UNKNOWN not in context.select(torch.full((3, 12), 1e9))

    def test_too_few_samples_for_a_threshold(self) -> None:
        context = learnt(GaussianContext(threshold=0.99), blobs())
        context.calibrate(blobs()[0])
        with pytest.raises(ContextError, match=r"threshold=0.99 .* 60 calibrated samples.* 99:"):
            context.select(blobs()[0])
        context.calibrate(blobs()[1][:39])
        context.select(blobs()[0])


class TestState:
    @pytest.mark.parametrize("per", ["task", "class"])
    def test_goes_on_as_if_nothing_had_happened(self, per: str) -> None:
        contexts = [GaussianContext(5, per, threshold=0.9) for _ in range(2)]  # type: ignore[arg-type]
        learnt(contexts[0], blobs())
        contexts[0].calibrate(blobs()[0])
        contexts[1].load_state_dict(contexts[0].state_dict())
        batch = blobs()[2]
        for _ in range(2):
            assert contexts[0].tasks == contexts[1].tasks
            assert torch.equal(contexts[0].scores(batch), contexts[1].scores(batch))
            assert torch.equal(contexts[0].novelty(batch), contexts[1].novelty(batch))
            for context in contexts:
                context.update("task 1", batch, torch.zeros(60).long())

    def test_loading_does_not_share_what_is_added_to(self) -> None:
        context, other = learnt(GaussianContext(), blobs()), GaussianContext()
        other.load_state_dict(context.state_dict())
        before = context.scores(blobs()[0])
        learnt(other, [batch + 1 for batch in blobs()])
        other.calibrate(blobs()[0])
        assert torch.equal(context.scores(blobs()[0]), before)
        assert not context.state_dict()["distances"].any()

    def test_of_a_context_that_saw_nothing(self) -> None:
        other = learnt(GaussianContext(), blobs())
        other.load_state_dict(GaussianContext().state_dict())
        assert other.tasks == ()
        other.update(0, torch.rand(5, 3))

    def test_of_other_settings(self) -> None:
        state = learnt(GaussianContext(5, seed=1), blobs()).state_dict()
        context = GaussianContext(6, "class", seed=1)
        with pytest.raises(ContextError, match="features 5 instead of 6, per 'task' instead of"):
            context.load_state_dict(state)
        assert context.tasks == ()
        with pytest.raises(ContextError, match="of kind None, not GaussianContext"):
            context.load_state_dict({})
        with pytest.raises(ContextError, match="expected a dict that state_dict"):
            context.load_state_dict(None)  # type: ignore[arg-type]
        with pytest.raises(ContextError, match="lacks settings, matrix, tasks, components, dist"):
            context.load_state_dict({"kind": "GaussianContext"})


class TestRefusals:
    def test_settings(self) -> None:
        with pytest.raises(ContextError) as caught:
            GaussianContext(0, "both", shrinkage=2, threshold=1)  # type: ignore[arg-type]
        for name in ("features", "per", "shrinkage", "threshold"):
            assert f"{name}=" in str(caught.value)
        with pytest.raises(ContextError) as caught:
            GaussianContext(True, shrinkage="much", threshold="x", seed=1.5, extract=3)  # type: ignore[arg-type]
        for name in ("features", "shrinkage", "threshold", "seed", "extract"):
            assert f"{name}=" in str(caught.value)

    def test_a_threshold_set_later(self) -> None:
        context = learnt(GaussianContext(), blobs())
        context.threshold = 99
        with pytest.raises(ContextError, match="threshold=99: expected a number between 0 and 1"):
            context.select(blobs()[0])

    @pytest.mark.parametrize("task", [None, 1.5, True, ["a"]])
    def test_a_task_that_is_neither_name_nor_index(self, task: Any) -> None:
        for context in (GaussianContext(), EnergyContext()):
            with pytest.raises(ContextError, match="expected the name of a task"):
                context.update(task, torch.rand(2, 3))
            assert context.tasks == ()

    @pytest.mark.parametrize("ask", ["scores", "select", "novelty", "log_likelihood", "calibrate"])
    def test_asked_before_any_task(self, ask: str) -> None:
        with pytest.raises(ContextError, match="has seen no task yet: call update"):
            getattr(GaussianContext(), ask)(torch.rand(2, 3))

    def test_another_size(self) -> None:
        context = learnt(GaussianContext(), blobs())
        for use in (lambda x: context.update("a", x), context.scores):
            with pytest.raises(DataError, match=r"has 7 features .* earlier samples had 12"):
                use(torch.rand(2, 7))
        assert "a" not in context.tasks

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, value: float) -> None:
        context = GaussianContext()
        with pytest.raises(DataError, match="NaN or infinite"):
            context.update("a", torch.tensor([[0.0, value]]))
        assert context.tasks == ()
        context.update("a", torch.rand(3, 5))

    def test_token_ids_and_other_things(self) -> None:
        with pytest.raises(DataError, match=r"got torch.int64: .*extract="):
            GaussianContext().update("a", torch.ones(2, 3).long())
        with pytest.raises(DataError, match=r"dict are not a tensor .*extract="):
            GaussianContext().update("a", {"x": torch.rand(2, 3)})
        with pytest.raises(ContextError, match=r"features \[N, F\], got a tensor .*\[2, 3, 4\]"):
            GaussianContext(extract=lambda x: x).update("a", torch.rand(2, 3, 4))

    def test_labels(self) -> None:
        context = GaussianContext(per="class")
        with pytest.raises(ContextError, match=r"needs labels: update\(task, inputs, labels\)"):
            context.update("a", torch.rand(2, 3))
        for labels in (torch.zeros(3).long(), torch.zeros(2), torch.zeros(2, 1).long()):
            with pytest.raises(DataError, match="whole numbers, one for each of the 2 samples"):
                context.update("a", torch.rand(2, 3), labels)
        with pytest.raises(DataError, match=r"labels must be a tensor \[N\], got list"):
            context.update("a", torch.rand(2, 3), [0, 1])  # type: ignore[arg-type]
        with pytest.raises(DataError, match="0 or more, got -1: number classes from 0"):
            context.update("a", torch.rand(2, 3), torch.tensor([0, -1]))
        assert context.tasks == ()
        with pytest.raises(ContextError, match=r"GaussianContext\(per='class'\)"):
            learnt(GaussianContext(), blobs()).class_scores(blobs()[0])

    def test_a_singular_covariance(self) -> None:
        context = GaussianContext(shrinkage=0.0, per="class")
        context.update("b", torch.rand(3, 9), torch.tensor([4, 4, 4]))
        with pytest.raises(ContextError, match="task 'b', class 4 is singular: 3 samples in 9"):
            context.scores(torch.rand(1, 9))

    def test_merging_what_does_not_fit(self) -> None:
        context = learnt(GaussianContext(5), blobs())
        for other, what in (
            (learnt(GaussianContext(6), blobs()), "features 6 instead of 5"),
            (learnt(GaussianContext(5), blobs(size=9)), "size 9 instead of 12"),
        ):
            with pytest.raises(ContextError, match=what):
                context.merge(other)
        with pytest.raises(ContextError, match="expected a GaussianContext, got EnergyContext"):
            context.merge(EnergyContext())  # type: ignore[arg-type]
        with pytest.raises(ContextError, match="would count twice: merge the context of another"):
            context.merge(context)


def test_what_it_says_of_the_classes_of_a_task() -> None:
    batches = blobs()
    context = GaussianContext(5, "class")
    context.update("a", batches[0], torch.tensor([2, 0, 0]).repeat(20))
    context.update("b", batches[1], torch.tensor([0]).repeat(60))
    inputs = torch.cat(batches)[::7]
    answers = context.class_answers(inputs)
    joint = context.class_scores(inputs).exp()  # ("a", 0), ("a", 2), ("b", 0)
    given_a = joint[:, :2] / joint[:, :2].sum(1, keepdim=True)
    torch.testing.assert_close(answers(0).exp()[:, [0, 2]], given_a)
    assert (answers(0)[:, 1] == -torch.inf).all()
    assert answers(1).tolist() == [[0.0]] * len(inputs)


def test_what_it_says_of_the_classes_is_flattened_by_a_temperature() -> None:
    inputs = torch.cat(blobs())
    context = GaussianContext(5, "class")
    context.update("a", inputs, torch.tensor([0, 1, 2]).repeat(len(inputs) // 3))
    plain = context.class_answers(inputs)(0)
    flat = context.class_answers(inputs, temperature=2)(0)
    torch.testing.assert_close(flat.exp(), plain.exp().sqrt() / plain.exp().sqrt().sum(1)[:, None])
    for temperature in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ContextError, match=r"temperature=.*: expected a finite number > 0"):
            context.class_answers(inputs, temperature=temperature)


def test_its_size_is_what_a_symmetric_scatter_needs() -> None:
    context = learnt(GaussianContext(5), blobs())
    assert context.size == len(context.tasks) * (1 + 5 + 5 * 6 / 2)
    assert GaussianContext().size == 0
