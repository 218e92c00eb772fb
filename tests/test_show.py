"""``voxella.show``: the right voxels in the right place, in a figure and in a viewer."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

import voxella
from voxella.errors import UserError
from voxella.imaging.volume import read_image, write_volume
from voxella.sampling.synthetic_image import SyntheticImage

pytest.importorskip("matplotlib")

SHAPE = (6, 8, 4)


def volume() -> NDArray[np.float32]:
    """Dark, with one bright voxel at the right, anterior, in the middle slices."""
    array = np.zeros(SHAPE, np.float32)
    array[5, 7, 2] = 1.0
    return array


def picture(figure: Any) -> NDArray[np.uint8]:
    (shown,) = figure.axes[0].images
    return np.asarray(shown.get_array())


def test_the_patients_right_is_on_the_left_and_anterior_is_up() -> None:
    axial = picture(voxella.show(volume(), window=(0, 1)))[: SHAPE[1], : SHAPE[0]]
    assert axial[0, 0] == 255
    assert (axial > 0).sum() == 1


def test_pixels_are_square_in_mm(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    path = write_volume(tmp_path / "volume.nii", volume(), affine)
    thick = picture(voxella.show(path))
    assert np.array_equal(thick, picture(voxella.show(read_image(path))))
    assert np.array_equal(thick, picture(voxella.show(str(path))))
    assert np.array_equal(thick, picture(voxella.show(volume(), spacing_mm=(1, 1, 3))))
    # Superior to inferior there are 4 slices of 3 mm; anterior to posterior 8 of 1 mm.
    assert thick.shape[0] == 12
    assert picture(voxella.show(volume())).shape[0] == 8


def test_the_window_is_that_of_the_volumes_own_values() -> None:
    array = np.linspace(-50, 150, 6 * 8 * 4).reshape(SHAPE)
    assert np.array_equal(picture(voxella.show(array)), picture(voxella.show(array * 7 + 3)))
    low, high = np.percentile(array, (0.5, 99.5))
    asked = picture(voxella.show(array, window=(low, high)))
    assert np.array_equal(picture(voxella.show(array)), asked)
    assert picture(voxella.show(np.full(SHAPE, 3.0))).max() == 0  # nothing to divide by
    holes = array.copy()
    holes[0, 0, 0] = np.nan
    assert picture(voxella.show(holes)).max() == 255


def test_a_generated_image_is_shown_by_its_sequences() -> None:
    array = np.stack([volume(), 1 - volume()])
    channels = {"t2w": slice(0, 1), "adc": slice(1, 2)}
    unit = {"intensity": {"adc": {"window": [0.0, 3000.0]}}}
    image = SyntheticImage("a", array, np.diag([1.0, 1, 3, 1]), channels, (1, 1, 3), unit)
    first = picture(voxella.show(image, window=(0, 1)))
    assert np.array_equal(
        first, picture(voxella.show(volume(), spacing_mm=(1, 1, 3), window=(0, 1)))
    )
    inverse = picture(voxella.show(image, sequence="adc", window=(0, 3000)))
    assert inverse[:12, :6].min() == 0
    assert np.median(inverse[:12, :6]) == 255
    with pytest.raises(UserError, match="t2w, adc"):
        voxella.show(image, sequence="dwi")


def test_colours_are_shown_as_colours(tmp_path: Path) -> None:
    colours = np.zeros((5, 7, 3), np.uint8)
    colours[..., 0], colours[0, 0] = 200, (10, 20, 30)
    Pillow.fromarray(colours).save(tmp_path / "tile.png")
    assert np.array_equal(picture(voxella.show(tmp_path / "tile.png")), colours)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((2, 3, 4, 5)), r"\(2, 3, 4, 5\)"),
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 3, 3)), r"\(0, 3, 3\)"),
        (np.array([["a", "b"]]), "no volume"),
        (np.zeros((3, 3, 3), complex), "complex"),
        (7, "int is no volume"),
        ("nowhere.nii", r"nowhere\.nii"),
    ],
)
def test_what_is_no_volume_is_a_sentence(given: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        voxella.show(given)


def test_wrong_settings_are_sentences() -> None:
    with pytest.raises(UserError, match="two or three numbers"):
        voxella.show(volume(), spacing_mm=(1, 0, 2))
    with pytest.raises(UserError, match="auto, montage, niivue"):
        voxella.show(volume(), how="film")  # type: ignore[arg-type] # what is tested


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxella.view.show.find_spec", lambda name: None)
    for how in ("montage", "niivue"):
        with pytest.raises(UserError, match=r"voxella\[notebook\]"):
            voxella.show(volume(), how=how)


def test_a_notebook_with_ipyniivue_gets_the_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipyniivue")
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    widget = voxella.show(volume(), spacing_mm=(1, 1, 3), window=(0, 0.8))
    (held,) = widget.volumes
    read = nib.Nifti1Image.from_bytes(bytes(held.data))
    assert np.array_equal(read.get_fdata(), volume())
    assert np.allclose(read.affine, np.diag([1, 1, 3, 1]))
    assert (held.cal_min, held.cal_max) == (0, 0.8)
    # One slice needs no viewer.
    assert picture(voxella.show(volume()[..., 2])).shape == (8, 6)
