"""An image's header, read without a voxel: by its format, or why there is none to be had."""

from __future__ import annotations

from pathlib import Path

from voxella.check.header_itk import itk_header
from voxella.check.header_nifti import nifti_header
from voxella.check.image_header import HeaderProblem, ImageHeader, without_path
from voxella.errors import UserError
from voxella.imaging.headers import TextHeader, check_image_file, image_suffix, read_text_header
from voxella.machine import raise_if_machine

__all__ = ["read_header"]


def read_header(path: Path) -> ImageHeader:
    """Read an image's header.

    Raises:
        HeaderProblem: There is no such file, or it is no image, or its header cannot be read.
    """
    _check_file(path)
    try:
        if str(image_suffix(path)).startswith(".nii"):
            return nifti_header(path)
        return itk_header(path, _text_header(path))
    except HeaderProblem:
        raise
    except UserError as error:
        raise_if_machine(error)
        raise HeaderProblem("image.damaged", without_path(error, path)) from error
    except Exception as error:
        raise_if_machine(error, path)
        # Whatever a parser raises over a damaged header; its words may quote the header.
        problem = f"its header cannot be read ({type(error).__name__})"
        raise HeaderProblem("image.damaged", problem) from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise HeaderProblem("image.absent", "no such file")
    if not path.is_file() or image_suffix(path) is None:
        raise HeaderProblem("image.format", "not an image file of a format that is read")
    if path.stat().st_size == 0:
        raise HeaderProblem("image.empty", "0 bytes")
    try:
        check_image_file(path)
    except UserError as error:
        raise_if_machine(error)
        code = "image.lfs-pointer" if "Git-LFS" in error.problem else "image.unreadable"
        raise HeaderProblem(code, without_path(error, path)) from error


def _text_header(path: Path) -> TextHeader:
    """Read the text that opens a MetaImage or NRRD file, or tell what keeps it from being one."""
    try:
        return read_text_header(path)
    except UserError as error:
        raise_if_machine(error)
        words = {
            "Git-LFS": "image.lfs-pointer",
            "one file per slice": "image.format",
            "is absent": "image.absent",
        }
        code = next((code for word, code in words.items() if word in error.problem), None)
        raise HeaderProblem(code or "image.damaged", without_path(error, path)) from error
