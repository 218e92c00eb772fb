"""The prepared data set as tensors: one ``(C, *spatial)`` image per case.

An image is a file that preparing wrote, in [0, 1], or a tile of a shard that is read where it lies.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.imaging.intensity import normalise
from voxella.imaging.shards import row_of
from voxella.imaging.volume import read_image
from voxella.machine import raise_if_machine
from voxella.workspace.record import StageRecord

__all__ = ["PreparedVolumes"]

_KEEP_BYTES = 2**30


class PreparedVolumes:
    """Reads the volumes of a prepared data set; the first gigabyte stays in memory.

    Args:
        folder: The prepared data set.
        sequences: In order; each is one channel, or three where it is in colours.
        optional: Those of them that a case may lack; its channels are zeros then.
        spatial_dims: 3; or 2, where files hold one slice along S.
        keep_bytes: How much to keep in memory, for stages that visit a case many times.

    Raises:
        UserError: The folder is not prepared, or cases lack a sequence; lists them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sequences: Sequence[str],
        spatial_dims: int,
        optional: Collection[str] = (),
        keep_bytes: int = _KEEP_BYTES,
    ) -> None:
        self.folder = Path(folder)
        record = StageRecord(self.folder, "prepare", {}).previous()
        if record is None:
            raise UserError(
                f"{self.folder} is not a finished prepared data set (it has no stage.json)",
                remedy="voxella prepare RECIPE",
            )
        self.manifest = Manifest.read(self.folder)
        self.sequences = tuple(sequences)
        self.optional = frozenset(optional)
        self.spatial_dims = spatial_dims
        self._prepared = str(record.get("inputs_sha256"))
        self._kept: dict[str, Tensor] = {}
        self._room = keep_bytes
        self._check()

    @property
    def sources(self) -> dict[str, str]:
        """Return ``{case id: hash of what decides its volume}``.

        ``prepare`` records a hash of each case's voxels; without it, the whole preparation's hash
        serves, so that any change to it makes every case new.
        """
        return {
            case.id: sha256_json(
                [case.extra.get("prepared_sha256", self._prepared), self.sequences]
            )
            for case in self.manifest
        }

    @property
    def fingerprint(self) -> str:
        """Return a hash of all volumes and of the cases' splits."""
        splits = {case.id: case.split for case in self.manifest}
        return sha256_json([self.sources, splits])

    @property
    def ids(self) -> list[str]:
        """Return every case's id, sorted."""
        return sorted(case.id for case in self.manifest)

    def case(self, case_id: str) -> Case:
        """Return one case of the manifest."""
        return self._cases[case_id]

    def ids_of(self, split: str) -> list[str]:
        """Return the ids of one split, sorted."""
        return sorted(case.id for case in self.manifest if case.split == split)

    def read(self, case_id: str) -> Tensor:
        """Return one case's image, ``(C, *spatial)`` float32 in [0, 1].

        Raises:
            UserError: The sequences have different shapes, or the file does not suit
                ``spatial_dims``, or a voxel is not finite.
        """
        if case_id in self._kept:
            return self._kept[case_id]
        volume = self._load(self.case(case_id))
        if volume.nbytes <= self._room:
            self._kept[case_id] = volume
            self._room -= volume.nbytes
        return volume

    def absent(self, case_id: str) -> tuple[int, ...]:
        """Return the places, among the sequences, of those that a case lacks."""
        images = self.case(case_id).images
        return tuple(k for k, name in enumerate(self.sequences) if name not in images)

    def spacing_mm(self, case_id: str) -> tuple[float, ...]:
        """Return the voxel spacing along each spatial axis; ones where it is not recorded."""
        recorded = self.case(case_id).extra.get("spacing_mm") or [1.0] * self.spatial_dims
        return tuple(float(value) for value in recorded)

    def _load(self, case: Case) -> Tensor:
        there = [name for name in self.sequences if name in case.images]
        known = {name: self._channels(case, name) for name in there}
        # What is absent is grey, of one channel: see voxella.recipe.autoencoder.stacked.
        nothing = torch.zeros_like(next(iter(known.values())))
        parts = [known.get(name, nothing) for name in self.sequences]
        if len({part.shape[1:] for part in parts}) > 1:
            shapes = ", ".join(str(tuple(part.shape[1:])) for part in parts)
            raise UserError(
                f"case {case.id}: sequences differ in shape: {shapes}",
                remedy="voxella prepare RECIPE",
            )
        return torch.cat(parts)

    def _channels(self, case: Case, sequence: str) -> Tensor:
        path = self.manifest.image_path(case, sequence)
        try:
            image = _in_unit(path)
        except UserError as error:
            raise_if_machine(error, path)
            if row_of(path) is not None:
                raise  # a tile of the data set, read where it lies
            # A file of our own: it is made again where it is gone.
            raise UserError(
                error.problem, remedy=f"rm {path}, then voxella prepare RECIPE with the same --out"
            ) from error
        while image.ndim - 1 > self.spatial_dims and image.shape[-1] == 1:
            image = image[..., 0]
        if image.ndim - 1 != self.spatial_dims:
            raise UserError(
                f"case {case.id}: {path.name} has {tuple(image.shape[1:])} voxels",
                expected=f"{self.spatial_dims} axes, as many as latent.size has numbers",
            )
        if not bool(torch.isfinite(image).all()):
            raise UserError(
                f"case {case.id}: {path.name} holds voxels that are not finite",
                remedy="voxella prepare RECIPE",
            )
        return image

    def _check(self) -> None:
        self._cases = {case.id: case for case in self.manifest}
        problems = [
            f"case {case.id} has no {sequence} image in {self.folder}"
            for case in self.manifest
            for sequence in self.sequences
            if sequence not in case.images and sequence not in self.optional
        ]
        if not self._cases:
            problems.append(f"{self.folder} holds no case")
        if problems:
            raise UserError("\n".join(problems), remedy="voxella prepare RECIPE")


def _in_unit(path: Path) -> Tensor:
    image = read_image(path)
    # Of a picture what it calls white is 1; a file of our own has 1 there.
    array = image.array if image.white == 1 else normalise(image.array, (0.0, image.white))
    return torch.from_numpy(array).to(torch.float32)
