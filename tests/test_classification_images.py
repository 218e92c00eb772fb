"""What a classifier is fed: input, motions and loss, against closed forms and other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from blob_scenarios import SIZE, blob_recipe, chosen, real_cases, synthetic_cases
from monai.losses import FocalLoss
from torch import Tensor, nn

from voxella.classification.batches import ImageBatchBuilder
from voxella.classification.store import InputStore, as_input, read_image
from voxella.classification.task import ClassifierTask
from voxella.engine.order import DataOrder
from voxella.errors import UserError
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify, Focal


def settings(**changes: object) -> Classify:
    given = blob_recipe("real").classify
    assert given is not None
    return given.model_copy(update=changes)


# input


def test_an_input_is_the_body_scaled_by_percentiles_and_padded() -> None:
    body = torch.from_numpy(np.random.default_rng(0).uniform(1, 9, (4, 6, 2))).float()
    image = torch.zeros(1, 10, 11, 12)
    image[0, 1:5, 3:9, 7:9] = body
    wanted = settings(size=[8, 8, 4], percentiles=(0.0, 98.0), slice_mm=None)
    ready, spacing = as_input(image, torch.tensor([1.0, 1.0, 3.0]), wanted)
    low, high = np.percentile(body.numpy(), [0, 98])
    scaled = np.clip((body.numpy() - low) / (high - low), 0, 1)
    expected = np.zeros((8, 8, 4), dtype=np.float32)
    expected[2:6, 1:7, 1:3] = scaled
    np.testing.assert_allclose(ready[0].numpy(), expected, atol=1e-5)
    assert spacing.tolist() == [1.0, 1.0, 3.0]


def test_an_input_larger_than_the_size_keeps_its_middle() -> None:
    image = 1 + torch.arange(10.0).reshape(1, 10, 1, 1).expand(1, 10, 4, 4)
    ready, _ = as_input(image, torch.ones(3), settings(size=[4, 4, 4], slice_mm=None))
    assert ready.shape == (1, 4, 4, 4)
    # Rows 3 to 6 of 10.
    low, high = np.percentile(np.repeat(np.arange(1.0, 11.0), 16), [0, 98])
    np.testing.assert_allclose(
        ready[0, :, 0, 0].numpy(), (np.arange(4.0, 8.0) - low) / (high - low), atol=1e-5
    )


def test_thin_slices_become_means_of_neighbours_and_thick_ones_are_interpolated() -> None:
    image = 1 + torch.rand(1, 4, 4, 8, generator=torch.Generator().manual_seed(1))
    means_of = {"slice_interpolation": "mean"}
    wanted = settings(size=[4, 4, 4], slice_mm=2.0, percentiles=(0.0, 100.0), **means_of)
    ready, spacing = as_input(image, torch.tensor([1.0, 1.0, 1.0]), wanted)
    means = image.reshape(1, 4, 4, 4, 2).mean(-1)
    expected = (means - means.min()) / (means.max() - means.min())
    torch.testing.assert_close(ready, expected, atol=1e-5, rtol=0)
    assert spacing.tolist() == [1.0, 1.0, 2.0]
    thick = settings(size=[4, 4, 16], slice_mm=1.0, foreground_crop=False, **means_of)
    _, finer = as_input(image, torch.tensor([1.0, 1.0, 2.0]), thick)
    assert finer.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("edge_mm", [0.75, 0.7, 1.3, 3.0, 4.1])
def test_slices_are_those_of_the_released_resampling(edge_mm: float) -> None:
    """SimpleITK's Resample to 0.5 x 0.5 x 3 mm, called as the released code calls it."""
    image = torch.rand(1, 6, 5, 40, generator=torch.Generator().manual_seed(2))
    slices = round(40 * edge_mm / 3.0)
    volume = sitk.GetImageFromArray(image[0].numpy().T)
    volume.SetSpacing((0.5, 0.5, edge_mm))
    spacing = (0.5, 0.5, 3.0)
    released = sitk.GetArrayFromImage(
        sitk.Resample(
            volume,
            (6, 5, slices),
            sitk.Transform(),
            sitk.sitkLanczosWindowedSinc,
            volume.GetOrigin(),
            spacing,
            volume.GetDirection(),
            0,
            volume.GetPixelID(),
        )
    ).T
    wanted = settings(
        size=[6, 5, slices], slice_mm=3.0, percentiles=(0.0, 100.0), foreground_crop=False
    )
    ready, spacing_mm = as_input(image, torch.tensor([0.5, 0.5, edge_mm]), wanted)
    floored = np.maximum(released, 0.0)
    low, high = floored.min(), floored.max()
    np.testing.assert_allclose(ready[0].numpy(), (floored - low) / (high - low), atol=2e-5)
    assert spacing_mm.tolist() == [0.5, 0.5, 3.0]


def test_an_image_without_a_body_or_without_contrast_is_refused() -> None:
    for image, words in ((torch.zeros(1, 4, 4, 4), "above 0"), (torch.ones(1, 4, 4, 4), "equal")):
        with pytest.raises(UserError, match=words):
            as_input(image, torch.ones(3), settings())


def test_colours_keep_their_values_and_grey_beside_them_does_not() -> None:
    generator = torch.Generator().manual_seed(3)
    image = 0.25 + 0.5 * torch.rand(4, 8, 8, generator=generator)
    image[1] = 0.5  # one colour may well be constant
    wanted = settings(size=[8, 8], percentiles=(0.0, 100.0), slice_mm=None)
    ready, _ = as_input(image, torch.ones(2), wanted, colours=(0, 1, 2))
    torch.testing.assert_close(ready[:3], image[:3], atol=0, rtol=0)
    grey = image[3]
    expected = (grey - grey.min()) / (grey.max() - grey.min())
    torch.testing.assert_close(ready[3], expected, atol=1e-6, rtol=0)
    all_colours, _ = as_input(image[:3], torch.ones(2), wanted, colours=(0, 1, 2))
    torch.testing.assert_close(all_colours, image[:3], atol=0, rtol=0)
    with pytest.raises(UserError, match=r"channel 1: percentiles 0 and 100 are equal"):
        as_input(image, torch.ones(2), wanted)


def test_an_input_in_colours_is_another_than_one_in_grey(tmp_path: Path) -> None:
    names = ["tile"]
    grey = InputStore(tmp_path, settings(), names)
    assert InputStore(tmp_path, settings(), names, colours=frozenset()).key == grey.key
    assert InputStore(tmp_path, settings(), names, colours={0, 1, 2}).key != grey.key


def test_synthetic_images_come_back_to_their_scale(tmp_path: Path) -> None:
    real = real_cases(tmp_path / "real", {"train": 2})
    made = synthetic_cases(tmp_path / "made", real)
    image, spacing = read_image(made, made.cases[1], ["t2w"], 3)
    assert image.shape == (1, *SIZE)
    assert float(image.max()) == pytest.approx(0.9, abs=1 / 962)
    assert spacing.tolist() == [1.0, 1.0, 3.0]
    with pytest.raises(UserError, match="no image of sequence adc"):
        read_image(made, made.cases[0], ["t2w", "adc"], 3)


def test_the_store_names_every_image_that_cannot_serve(tmp_path: Path) -> None:
    recipe = blob_recipe("real")
    real = real_cases(tmp_path / "prepared", {"train": 4, "val": 2})
    for case in real.split("val"):
        real.image_path(case, "t2w").write_bytes(b"not an image")
    examples = chosen(recipe, real, None)
    assert recipe.classify is not None
    store = InputStore(tmp_path / "inputs", recipe.classify, ["t2w"])
    with pytest.raises(UserError, match="2 image") as error:
        store.build(examples.all.values(), Ranks(0, 0, 1))
    assert "real-val-0" in str(error.value)
    assert "real-val-1" in str(error.value)
    # The good ones are done, and stay so.
    assert len(list(store.folder.glob("*.safetensors"))) == 4
    assert store.build(examples.phases[0][1].values(), Ranks(0, 0, 1)) == 0


# motions


# batches and loss


def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    """Parts of a step's batch are the batch, images moved as they are on one process."""
    recipe = blob_recipe(
        "real", "classify.augment.probability=1", "classify.augment.noise={probability: 1}"
    )
    assert recipe.classify is not None
    examples = chosen(recipe, real_cases(tmp_path / "prepared", {"train": 6, "val": 2}), None)
    store = InputStore(tmp_path / "inputs", recipe.classify, ["t2w"])
    store.build(examples.all.values(), Ranks(0, 0, 1))
    cases = examples.phases[0][1]
    builder = ImageBatchBuilder(
        cases, store, ["negative", "positive"], "positive", seed=5, augment=recipe.classify.augment
    )
    order = DataOrder(list(cases), seed=5, batch_size=4)
    whole = builder.make(order.step(2))
    parts = [
        builder.make(keys)
        for micro in range(2)
        for rank in range(2)
        for keys in [order.micro_batches(2, rank=rank, world=2, accumulation=2)[micro]]
    ]
    assert sum((part.case_ids for part in parts), ()) == whole.case_ids
    for name in ("images", "target"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name)), name
    later = builder.make([*order.step(0), *order.step(40)])
    assert len({image.numpy().tobytes() for image in later.images}) == 8


@pytest.mark.parametrize("alpha", [None, 0.75])
def test_the_loss_is_monais_focal_loss(alpha: float | None, tmp_path: Path) -> None:
    recipe = blob_recipe("real")
    assert recipe.classify is not None
    examples = chosen(recipe, real_cases(tmp_path / "prepared", {"train": 4, "val": 2}), None)
    store = InputStore(tmp_path / "inputs", recipe.classify, ["t2w"])
    store.build(examples.all.values(), Ranks(0, 0, 1))
    builder = ImageBatchBuilder(
        examples.phases[0][1], store, ["negative", "positive"], "positive", seed=0
    )
    batch = builder.make(DataOrder(list(builder.cases), seed=0, batch_size=4).step(0))

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(images.mean(dim=(1, 2, 3, 4))[:, None])
            return logits

    torch.manual_seed(0)
    task = ClassifierTask(Mean(), Focal(gamma=2.0, alpha=alpha))
    found = task(batch)
    ours = FocalLoss(gamma=2.0, alpha=alpha, use_softmax=True, reduction="mean")
    torch.testing.assert_close(found["total"], ours(found["logits"], batch.target))
    assert found["loss_per_case"].shape == (4,)
