"""Names of before, as third-party plugins may still write them: they work, and warn."""

from __future__ import annotations

import pytest

import voxella.data.drafts as drafts
import voxella.plugins.specs as specs
from voxella.errors import UserError
from voxella.imaging.problem import ImageError


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (drafts, "Draft", "CaseDraft"),
        (drafts, "Assembly", "DatasetWriter"),
        (specs, "WIRED", "INJECTED"),
    ],
)
def test_an_old_name_is_the_new_one_and_warns(module: object, old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        assert getattr(module, old) is getattr(module, new)


def test_what_was_never_a_name_is_none() -> None:
    with pytest.raises(AttributeError, match=r"voxella\.data\.drafts.*'Sketch'"):
        getattr(drafts, "Sketch")  # noqa: B009 - a type checker knows that it is not there


def test_an_error_still_takes_and_shows_legal() -> None:
    with pytest.warns(DeprecationWarning, match="legal is now expected"):
        old = UserError("depth is 0", legal="1 or more")
    assert str(old) == str(UserError("depth is 0", expected="1 or more"))
    assert str(old) == "depth is 0\n  expected: 1 or more"
    with pytest.warns(DeprecationWarning, match="legal is now expected"):
        assert old.legal == "1 or more"


def test_expected_and_next_stand_below_one_another() -> None:
    error = ImageError("a.nii: no image", code="image.format", expected=".nii", remedy="convert it")
    assert str(error) == "a.nii: no image\n  expected: .nii\n  next:     convert it"
