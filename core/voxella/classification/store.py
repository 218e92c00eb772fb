"""Classifier inputs on the disk: made once, read at every visit, by every scenario and seed.

A volume of the paper's size takes a second to read and to bring to a classifier's input; 16,000
steps of 16 cases would take three days of that. A ready input is 4 MB in half precision.

A case's image as a classifier sees it: cropped to the body, scaled, padded or cropped to size. The
CCELLA paper's input is 256 x 256 x 32 after foreground crop and percentile 0 to 98 scaling. Its
images have slices 3 mm apart: real ones their scan's, synthetic ones after a resampling. Prepared
volumes have 128 thin ones, whose middle 32 are a slab: all are brought to such a distance first
(``classify.slice_mm``).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from monai.transforms import CropForeground, ResizeWithPadOrCrop, ScaleIntensityRangePercentiles
from monai.transforms.utils_pytorch_numpy_unification import percentile
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voxella.case import Case, Manifest
from voxella.case_fields import stored_window
from voxella.classification.examples import Example
from voxella.engine.runtime import broadcast_object
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.hashing import sha256_json
from voxella.imaging.interpolation import sample_axis
from voxella.imaging.volume import Image
from voxella.imaging.volume import read_image as read_file
from voxella.machine import raise_if_machine
from voxella.progress import Steps
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify

__all__ = ["INPUT_SETTINGS", "InputStore", "as_input", "read_image"]

# Raised when the same settings give other inputs than before.
_METHOD = 1
_KEEP_BYTES = 2**30
_THREADS = 4

# Keys of ``classify`` that decide how an image reaches the network, beside the sequences.
INPUT_SETTINGS = ("size", "percentiles", "foreground_crop", "slice_mm", "slice_interpolation")


class InputStore:
    """Inputs by example, in ``folder/<settings>/<identity>.safetensors``.

    Args:
        folder: Shared by all scenarios that read the same prepared data.
        settings: The recipe's block.
        sequences: In order; each is one channel, or three where it is in colours.
        colours: Channels whose values stay.
        keep_bytes: How much to keep in memory.
    """

    def __init__(
        self,
        folder: Path,
        settings: Classify,
        sequences: Sequence[str],
        *,
        colours: Collection[int] = (),
        keep_bytes: int = _KEEP_BYTES,
    ) -> None:
        chosen = settings.model_dump(mode="json", include=set(INPUT_SETTINGS))
        self.settings = settings
        self.sequences, self.colours = tuple(sequences), tuple(sorted(colours))
        seen = [self.sequences, self.colours] if self.colours else [self.sequences]
        self.key = sha256_json([_METHOD, chosen, *seen])
        self.folder = Path(folder) / self.key[:16]
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}
        self._room = keep_bytes

    def path(self, example: Example) -> Path:
        """Return an input's file."""
        return self.folder / f"{example.identity[:32]}.safetensors"

    def build(self, examples: Iterable[Example], ranks: Ranks) -> int:
        """Make this process's share of the inputs that are absent, and return how many; collective.

        Raises:
            UserError: Naming every case whose image cannot serve, when all others are done.
        """
        everything = list(examples)
        # One list for all: a process that looks while another writes would share it out otherwise.
        here = [n for n, e in enumerate(everything) if not self.path(e).is_file()]
        absent = broadcast_object(here)
        mine = [everything[absent[index]] for index in ranks.share(len(absent))]
        problems: list[str] = []
        workers = min(_THREADS, os.cpu_count() or 1)
        with (
            Steps("classifier inputs", len(mine), quiet=not ranks.is_main) as steps,
            ThreadPoolExecutor(workers) as pool,
        ):
            for problem in pool.map(self._make, mine):
                problems += problem
                steps.advance()
        if problems:
            raise UserError(
                "\n".join([f"{len(problems)} image(s) cannot be classified:", *problems]),
                remedy="voxella prepare RECIPE for real ones, voxella sample RECIPE for synthetic",
            )
        return len(mine)

    def read(self, example: Example) -> tuple[Tensor, Tensor]:
        """Return an input ``(C, *size)`` float32 in [0, 1] and its spacing ``(n,)`` in mm."""
        found = self._kept.get(example.identity)
        if found is None:
            tensors = load_file(self.path(example))
            found = (tensors["image"], tensors["spacing_mm"])
            if found[0].nbytes <= self._room:
                self._kept[example.identity] = found
                self._room -= found[0].nbytes
        return found[0].float(), found[1]

    def _make(self, example: Example) -> list[str]:
        """Write one input; return what is wrong with it."""
        try:
            image, spacing_mm = read_image(
                example.manifest, example.case, self.sequences, len(self.settings.size)
            )
            image, spacing_mm = as_input(image, spacing_mm, self.settings, self.colours)
        except UserError as error:
            raise_if_machine(error)
            return [f"  case {example.case.id}: {error.problem}"]
        with atomic_path(self.path(example)) as temporary:
            save_file({"image": image.to(torch.float16), "spacing_mm": spacing_mm}, temporary)
        return []


def read_image(
    manifest: Manifest, case: Case, sequences: Sequence[str], spatial_dims: int
) -> tuple[Tensor, Tensor]:
    """Read one case, real or synthetic.

    Args:
        manifest: Of the data set.
        case: One of its cases.
        sequences: In order; each is one channel, or three where it is in colours.
        spatial_dims: 3; or 2, where files hold one slice along S.

    Returns:
        ``(C, *spatial)`` float32 on the scale before it was stored as int16, and the spacing in mm
        ``(spatial_dims,)``.

    Raises:
        UserError: A sequence is absent or damaged, or the case's files do not fit together.
    """
    absent = [name for name in sequences if name not in case.images]
    if absent:
        raise UserError(f"no image of sequence {', '.join(absent)}")
    images = [read_file(manifest.image_path(case, name)) for name in sequences]
    shapes = {image.first.array.shape for image in images}
    if len(shapes) > 1:
        raise UserError(f"its sequences differ in shape: {sorted(shapes)}")
    # What a picture calls white is 1; of a volume that is told by its manifest.
    windows = [stored_window(case.extra, name) for name in sequences]
    arrays = [_unscaled(*pair) for pair in zip(images, windows, strict=True)]
    image = torch.cat([torch.from_numpy(array) for array in arrays]).float()
    while image.ndim - 1 > spatial_dims and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim - 1 != spatial_dims:
        raise UserError(
            f"{tuple(image.shape[1:])} voxels, and classify.size has {spatial_dims} axes"
        )
    if not bool(image.isfinite().all()):
        raise UserError("it holds voxels that are not finite")
    return image, torch.tensor(images[0].first.spacing_mm[:spatial_dims]).float()


def _unscaled(image: Image, window: tuple[float, float]) -> NDArray[np.float32]:
    """Return stored numbers with a window of them mapped to [0, 1]; not clipped."""
    low, high = window
    bright = image.array / np.float32(image.white)
    # As ever where black is 0: not a bit of what is cached changes.
    return bright if window == (0.0, 1.0) else (bright - np.float32(low)) / np.float32(high - low)


def as_input(
    image: Tensor, spacing_mm: Tensor, settings: Classify, colours: Collection[int] = ()
) -> tuple[Tensor, Tensor]:
    """Return a classifier's input and its spacing.

    Args:
        image: ``(C, *spatial)``; 0 is background.
        spacing_mm: ``(n,)``.
        settings: The recipe's block.
        colours: Channels whose values stay: a stain is told by its red, green and blue together,
            and one of them may well be constant.

    Returns:
        ``(C, *settings.size)`` float32 in [0, 1], and ``(n,)`` mm.

    Raises:
        UserError: There is no body to crop to, or a channel is constant.
    """
    if settings.slice_mm is not None and image.ndim == 4:
        bring = _slices_at if settings.slice_interpolation == "lanczos" else _slice_means
        image, spacing_mm = bring(image, spacing_mm, settings.slice_mm)
    if settings.foreground_crop:
        if not bool((image > 0).any()):
            raise UserError("no voxel is above 0: there is nothing to crop to")
        image = convert_to_tensor(CropForeground()(image), track_meta=False)
    low, high = settings.percentiles
    scaled = [number for number in range(len(image)) if number not in colours]
    for number in scaled:
        # MONAI would divide by zero here.
        if not float(percentile(image[number], low)) < float(percentile(image[number], high)):
            raise UserError(f"channel {number}: percentiles {low:g} and {high:g} are equal")
    scale = ScaleIntensityRangePercentiles(low, high, 0.0, 1.0, clip=True, channel_wise=True)
    if scaled:
        image = image.clone()
        image[scaled] = convert_to_tensor(scale(image[scaled]), track_meta=False)
    sized = ResizeWithPadOrCrop(settings.size)(image)
    ready: Tensor = convert_to_tensor(sized, track_meta=False, dtype=torch.float32)
    return ready.contiguous(), spacing_mm


def _slices_at(image: Tensor, spacing_mm: Tensor, wanted_mm: float) -> tuple[Tensor, Tensor]:
    """Take a slice every ``wanted_mm``, the first where it is, by Lanczos along S.

    The released code's ``SimpleITK.Resample`` of synthetic volumes, on float values; what the
    kernel undershoots is background, and stays 0 for the foreground crop.
    """
    before, step = image.shape[-1], wanted_mm / float(spacing_mm[-1])
    positions = step * np.arange(max(1, round(before / step)), dtype=np.float64)
    sampled = sample_axis(image.numpy(), positions, axis=3)
    resized = torch.from_numpy(sampled).clamp_min(0.0)
    return resized, torch.cat([spacing_mm[:2], torch.tensor([wanted_mm])])


def _slice_means(image: Tensor, spacing_mm: Tensor, wanted_mm: float) -> tuple[Tensor, Tensor]:
    """Bring the S axis to about ``wanted_mm`` between slices: means of thin ones, else linear."""
    before = image.shape[-1]
    extent = before * float(spacing_mm[-1])
    count = max(1, round(extent / wanted_mm))
    mode, corners = ("area", None) if count <= before else ("trilinear", False)
    size = (*image.shape[1:3], count)
    resized = nn.functional.interpolate(image[None], size, mode=mode, align_corners=corners)[0]
    return resized, torch.cat([spacing_mm[:2], torch.tensor([extent / count])])
