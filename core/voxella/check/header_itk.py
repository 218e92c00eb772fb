"""A MetaImage's or NRRD's header as it stands in the file: SimpleITK mends spacings on the way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from voxella.check.image_header import ImageHeader
from voxella.imaging.headers import TextHeader
from voxella.imaging.text_geometry import geometry_problems

__all__ = ["itk_header"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_header(path: Path, text: TextHeader) -> ImageHeader:
    """Read the header of a file whose opening text has been found sound.

    Raises:
        RuntimeError: SimpleITK's, over a damaged header.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    bits = re.search(r"(\d+)-bit", kind)
    components = int(reader.GetNumberOfComponents())
    spacing = tuple(float(edge) for edge in reader.GetSpacing())
    axes = len(spacing)
    lps = np.eye(4)
    kept = min(axes, 3)
    direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(axes, axes)
    lps[:kept, :kept] = (direction * np.asarray(spacing))[:kept, :kept]
    lps[:kept, 3] = reader.GetOrigin()[:kept]
    return ImageHeader(
        shape=tuple(int(count) for count in reader.GetSize()),
        colour=components > 1 and "complex" not in kind,
        complex="complex" in kind,
        voxel_bytes=components * (int(bits[1]) if bits else 8) // 8,
        held_bytes=text.data_file.stat().st_size - text.data_offset,
        expansion=text.expansion,
        affine=np.asarray(_LPS_TO_RAS @ lps, dtype=np.float64),
        refused=tuple(geometry_problems(text.fields)),
        offset_known=not {"headersize", "line skip", "byte skip"} & text.fields.keys(),
    )
