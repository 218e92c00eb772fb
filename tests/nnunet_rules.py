"""What nnU-Net asks of a raw data set, restated from its own code and read as it reads.

Source: nnunetv2 2.8.1, ``experiment_planning/verify_dataset_integrity.py``,
``utilities/utils.py`` (which files are a case) and ``imageio/simpleitk_reader_writer.py``, the
reader that it chooses for ``.nii.gz``. Its warnings count as faults here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

__all__ = ["assert_nnunet", "read_nnunet"]


def read_nnunet(path: Path) -> tuple[NDArray[Any], tuple[float, ...], tuple[float, ...]]:
    """Return voxels ``(z, y, x)``, spacing, and origin with direction."""
    image = sitk.ReadImage(str(path))
    place = (*image.GetOrigin(), *image.GetDirection())
    return sitk.GetArrayFromImage(image), image.GetSpacing(), place


def assert_nnunet(folder: Path) -> dict[str, list[Path]]:
    """Assert all rules; return the images of each training case."""
    told = json.loads((folder / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= told.keys()
    ending, channels = told["file_ending"], told["channel_names"]
    assert list(channels) == [str(n) for n in range(len(channels))]
    labels = told["labels"]
    assert labels["background"] == 0
    assert sorted(labels.values()) == list(range(len(labels)))
    cases: dict[str, list[Path]] = {}
    for path in sorted((folder / "imagesTr").iterdir()):
        assert path.name.endswith(ending)
        cases.setdefault(path.name[: -len(ending) - 5], []).append(path)
    assert len(cases) == told["numTraining"]
    for case, images in cases.items():
        name = re.compile(re.escape(case) + r"_\d\d\d\d" + re.escape(ending))
        assert all(name.fullmatch(path.name) for path in images)
        assert len(images) == len(channels)
        mask, spacing, place = read_nnunet(folder / "labelsTr" / f"{case}{ending}")
        assert set(np.unique(mask).tolist()) <= set(labels.values())
        for path in images:
            voxels, own_spacing, own_place = read_nnunet(path)
            assert voxels.shape == mask.shape
            assert np.allclose(own_spacing, spacing)
            assert np.allclose(own_place, place)
            assert not np.isnan(voxels).any()
    return cases
