"""The kinds of findings about image files, their voxels and where they lie."""

from __future__ import annotations

from voxella.check.finding import Kind, Severity

__all__ = ["IMAGE_KINDS"]

# code, severity, meaning, remedy
_TABLE: tuple[tuple[str, Severity, str, str], ...] = (
    (
        "image.no-sequence",
        "error",
        "a sequence that the recipe reads is absent from the case",
        "import the sequence, take the case out, or leave it out of data.sequences",
    ),
    (
        "image.uneven-sequences",
        "note",
        "most cases have a sequence that this one lacks",
        "leave the sequence out of data.sequences, or take the case out",
    ),
    (
        "image.optional-sequence",
        "note",
        "cases lack a sequence that the recipe calls optional",
        "nothing to do: they are trained on the sequences that they have",
    ),
    ("image.absent", "error", "the image file is not there", "fix the path, or copy the file"),
    (
        "image.format",
        "error",
        "the file is of a format that is not read",
        "convert it to one .nii.gz or .mha file, a picture to PNG",
    ),
    ("image.empty", "error", "the file is empty", "copy or download the file again"),
    (
        "image.lfs-pointer",
        "error",
        "the file is a Git-LFS pointer instead of the image",
        "run git lfs pull in the repository that holds it",
    ),
    (
        "image.truncated",
        "error",
        "the file holds fewer voxels than its header claims",
        "copy or download the file again",
    ),
    (
        "image.damaged",
        "error",
        "the header or the compressed voxels cannot be read",
        "copy or download the file again",
    ),
    (
        "image.impossible-size",
        "error",
        "the header claims more voxels than the limit allows; nothing was allocated",
        "copy the file again, or convert it from its DICOM again; or raise VOXELLA_MAX_VOXELS",
    ),
    (
        "image.unreadable",
        "error",
        "the image cannot be read, for a reason that no other code names",
        "open it in a viewer, or copy it again from its source",
    ),
    (
        "image.trailing-bytes",
        "warning",
        "the file holds more voxels than its header claims",
        "compare its header with the scan: slices may be left out",
    ),
    (
        "image.colour",
        "error",
        "colour (RGB) or vector voxels, where one number per voxel is needed",
        "take the series itself, not a colour map or a screenshot; for pictures in colours set "
        "the sequence's rule in prepare.intensity to colour",
    ),
    (
        "image.grey",
        "error",
        "one number per voxel, where the recipe asks for colours",
        "take the picture in colours, or set prepare.intensity for the sequence",
    ),
    (
        "image.colour-space",
        "error",
        "colours that are not red, green and blue, such as CMYK",
        "convert it to sRGB with the program that made it",
    ),
    (
        "image.transparent",
        "error",
        "some pixels of a picture are transparent",
        "paint it onto a background and save it without transparency",
    ),
    ("image.complex", "error", "complex voxels", "save the magnitude image"),
    (
        "image.not-3d",
        "error",
        "a time series, several b-values or several pages in one file, where one image is needed",
        "split it into one file per image",
    ),
    (
        "image.no-voxels",
        "error",
        "an axis has no voxel",
        "copy the file again, or convert it from its DICOM again",
    ),
    (
        "image.no-finite",
        "error",
        "every voxel is NaN or infinite",
        "convert it from its DICOM again",
    ),
    (
        "image.nonfinite",
        "warning",
        "some voxels are NaN or infinite; preparing makes them as dark as the darkest voxel",
        "see where they lie; convert the image again if it is inside the body",
    ),
    (
        "image.constant",
        "error",
        "all voxels have the same value",
        "export the series again, or take the case out",
    ),
    (
        "image.constant-crop",
        "error",
        "the image is constant inside the crop, though not outside it",
        "see whether the organ lies in the middle; enlarge prepare.crop_mm or take the case out",
    ),
    (
        "image.units",
        "error",
        "the intensities do not fit the fixed window that the recipe has for the sequence",
        "see in which units the map is; set prepare.intensity for the sequence",
    ),
    (
        "image.few-values",
        "warning",
        "a handful of distinct values: a mask or a label map in place of a scan?",
        "check the path: masks often lie beside the images",
    ),
    (
        "geometry.spacing",
        "error",
        "a voxel's edge is missing from the header, zero, negative or not a number",
        "convert it from its DICOM again",
    ),
    (
        "geometry.no-spacing",
        "error",
        "a picture (PNG, JPEG, TIFF) does not say how large its pixels are, and the crop is in mm",
        "set prepare.crop_mm to nulls, or give the crop as prepare.crop_voxels",
    ),
    (
        "geometry.spacing-absurd",
        "warning",
        "a voxel's edge is finer than 0.05 mm or coarser than 20 mm",
        "see whether the header counts in mm; convert it from its DICOM again",
    ),
    (
        "geometry.units",
        "error",
        "the header counts in a unit of length that is not read",
        "convert it to mm, or from its DICOM again",
    ),
    (
        "geometry.affine",
        "error",
        "the affine is not finite, far out of the scanner, or maps the volume onto a plane",
        "convert it from its DICOM again",
    ),
    (
        "geometry.sheared",
        "error",
        "two axes of the affine are not at right angles",
        "resample it onto an unsheared grid, or convert it from its DICOM again",
    ),
    (
        "geometry.qform-sform",
        "warning",
        "the header holds two orientations (qform, sform) that contradict each other; sform is "
        "used",
        "find out which is right and write it as both",
    ),
    (
        "geometry.no-orientation",
        "error",
        "the header says nothing of the orientation: left and right are a guess",
        "convert it from its DICOM again, keeping the orientation",
    ),
    (
        "geometry.plane",
        "warning",
        "acquired in another plane than the same sequence of most cases",
        "take the series of the usual plane, or take the case out",
    ),
    (
        "geometry.field-of-view",
        "warning",
        "the field of view is smaller than the crop, so that the prepared case gets a dark border",
        "make prepare.crop_mm or crop_voxels smaller, or take the case out",
    ),
    (
        "geometry.no-scan",
        "error",
        "no prepared voxel lies within the sequence, so that all of it would be padding",
        "make prepare.crop_mm smaller or prepare.size larger, or take the case out",
    ),
    (
        "geometry.slices",
        "error",
        "the number of slices does not fit the recipe: one slice where it takes volumes, or more "
        "than one where it takes single slices",
        "give prepare.size and prepare.crop_mm as many entries as the images have axes",
    ),
    (
        "mask.crop",
        "error",
        "the mask that the crop is centred on is empty or lies elsewhere",
        "fix the mask, take the case out, or set prepare.crop_around to null",
    ),
    (
        "geometry.grids-differ",
        "note",
        "sequences of the case lie on different grids; preparing resamples them onto the first's",
        "nothing, if the sequences are registered to each other",
    ),
    (
        "geometry.no-overlap",
        "error",
        "nothing of a sequence lies within the crop of the first one",
        "see whether both are of the same study and whether one has lost its position",
    ),
    (
        "geometry.partial-overlap",
        "warning",
        "a sequence covers less than 80 % of the first one's crop; the rest becomes dark",
        "see whether both are of the same study, or leave the sequence out of data.sequences",
    ),
)

IMAGE_KINDS: dict[str, Kind] = {row[0]: Kind(*row) for row in _TABLE}
