"""An image's header, read without a voxel: by its format, or why there is none to be had."""

from __future__ import annotations

from pathlib import Path

from voxella.check.header_itk import itk_header
from voxella.check.header_nifti import nifti_header
from voxella.check.image_header import HeaderProblem, ImageHeader, without_path
from voxella.imaging.headers import check_image_file, image_suffix, read_text_header
from voxella.imaging.problem import ImageError
from voxella.machine import raise_if_machine

__all__ = ["read_header"]


def read_header(path: Path) -> ImageHeader:
    """Read an image's header.

    Raises:
        HeaderProblem: There is no such file, or it is no image, or its header cannot be read.
    """
    try:
        check_image_file(path)
        if str(image_suffix(path)).startswith(".nii"):
            return nifti_header(path)
        return itk_header(path, read_text_header(path))
    except HeaderProblem:
        raise
    except ImageError as error:
        raise_if_machine(error)
        raise HeaderProblem(error.code, without_path(error, path)) from error
    except Exception as error:
        raise_if_machine(error, path)
        # Whatever a parser raises over a damaged header; its words may quote the header.
        problem = f"truncated or damaged: its header cannot be read ({type(error).__name__})"
        raise HeaderProblem("image.damaged", problem) from error
