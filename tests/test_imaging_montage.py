"""Pictures: which way up, and how wide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from voxella.imaging.montage import montage, three_planes, write_png


def lit(corner: Any) -> NDArray[np.float32]:
    """A dark (8, 6, 4) volume, bright in one half of each mid-plane."""
    volume = np.zeros((8, 6, 4), np.float32)
    volume[corner] = 1.0
    return volume


def test_planes_are_shown_as_radiologists_see_them() -> None:
    """Axial 8 x 6, then coronal 8 x 4, then sagittal 6 x 4 pixels, two dark ones between."""
    right = three_planes(lit(np.s_[6:, :, :]), (1, 1, 1))
    assert right.shape == (6, 8 + 2 + 8 + 2 + 6)
    axial, coronal = right[:, :8], right[1:5, 10:18]
    assert axial[:, :2].min() == 255
    assert axial[:, 2:].max() == 0, "the patient's right is on the picture's left"
    assert coronal[:, :2].min() == 255
    anterior = three_planes(lit(np.s_[:, 4:, :]), (1, 1, 1))
    assert anterior[:2, :8].min() == 255
    assert anterior[2:, :8].max() == 0, "anterior is up"
    assert anterior[1:5, 20:22].min() == 255
    assert anterior[1:5, 22:].max() == 0, "anterior is left in the sagittal plane"
    superior = three_planes(lit(np.s_[:, :, 3:]), (1, 1, 1))
    assert superior[1, 10:18].min() == 255
    assert superior[2:5, 10:18].max() == 0, "superior is up"


def test_pixels_are_square_in_millimetres() -> None:
    picture = three_planes(np.ones((8, 8, 4), np.float32), (1.0, 1.0, 3.0))
    assert picture.shape == (12, 8 + 2 + 8 + 2 + 8), "4 slices of 3 mm are 12 pixels"
    coarse = three_planes(np.ones((8, 8, 4), np.float32), (1.0, 1.0, 3.0), pixel_mm=2.0)
    assert coarse.shape == (6, 4 + 2 + 4 + 2 + 4)


def test_values_outside_the_window_saturate() -> None:
    volume = np.linspace(-1, 2, 64, dtype=np.float32).reshape(4, 4, 4)
    picture = three_planes(volume, (1, 1, 1), window=(0.25, 0.75))
    assert picture.dtype == np.uint8
    assert picture.min() == 0
    assert picture.max() == 255


def test_montage_has_a_row_per_case_and_takes_other_sizes() -> None:
    volumes = [np.ones((8, 6, 4), np.float32), np.ones((4, 6, 4), np.float32)]
    assert montage(volumes, (1, 1, 1)).shape == (6 + 2 + 6, 26)
    assert montage(volumes, [(1, 1, 1), (2, 1, 1)]).shape == (6 + 2 + 6, 26)
    assert montage(volumes, (1, 1, 1), labels=["a", "b"]).shape == (18 + 2 + 18, 26)
    assert montage([volumes[0]] * 4, (1, 1, 1), columns=2).shape == (14, 54)
    assert montage([np.ones((8, 6), np.float32)], (1, 1)).shape == (6, 8)
    assert montage([np.ones((8, 6, 1), np.float32)], (1, 1)).shape == (6, 8)
    with pytest.raises(ValueError, match="at least one"):
        montage([], (1, 1, 1))
    with pytest.raises(ValueError, match="as many"):
        montage(volumes, (1, 1, 1), labels=["a"])


def test_png_holds_the_same_pixels(tmp_path: Path) -> None:
    picture = np.arange(240, dtype=np.uint8).reshape(12, 20)
    path = write_png(tmp_path / "deep" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
