"""One case's images looked at to the last voxel, one image in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.check.geometry import Placement
from voxella.check.grids import PADDING_MM
from voxella.check.headers import without_path
from voxella.check.image_header import ImageHeader
from voxella.check.quick import case_headers
from voxella.check.settings import CaseImages, CheckSettings
from voxella.check.similarity import Floats
from voxella.check.voxels import (
    content_hash,
    picture,
    scan_problems,
    stream_problem,
    thumbnail_of,
)
from voxella.errors import UserError
from voxella.imaging.geometry import Grid, centred_grid, padding_mm, three_axes
from voxella.imaging.intensity import finite, intensity_window
from voxella.imaging.mask import crop_shift
from voxella.imaging.prepare import crop_of
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import Image, Volume, read_image, read_stored, read_volume
from voxella.machine import raise_if_machine
from voxella.recipe.inputs import Intensity

__all__ = ["CaseFacts", "examine"]

_FAILURES = (UserError, MemoryError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class CaseFacts:
    """What looking at a case gave.

    Attributes:
        findings: What is wrong with its images.
        places: Where the images lie, by sequence.
        planes: Plane of acquisition by sequence, of those that are no masks.
        contents: Hash of the voxels, by sequence.
        thumbnails: For :mod:`voxella.check.similarity`, by sequence.
        pictures: Mid-slices as JPEG, by sequence.
    """

    findings: list[Finding]
    places: dict[str, Placement] = field(default_factory=dict)
    planes: dict[str, str | None] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    thumbnails: dict[str, Floats] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


def examine(own: CaseImages, settings: CheckSettings) -> CaseFacts:
    """Look at every image of a case; never raises for a file.

    Args:
        own: The case's images.
        settings: Crop and intensities.
    """
    headers = case_headers(own, settings)
    facts = CaseFacts(list(headers.findings), headers.places, headers.planes)
    case = _Case(own, settings, facts)
    # The sequence that decides the grid comes first, whatever the order of the files. Values that
    # are not finite, or overflow, are findings and not warnings of numpy's.
    with np.errstate(all="ignore"):
        for name in sorted(own.files, key=lambda name: name != own.reference):
            if name in headers.headers:
                case.look(name, headers.headers[name])
            else:
                case.show_anyway(name)
    return facts


class _Case:
    """One case on its way; the crop is known once its first sequence is read."""

    def __init__(self, own: CaseImages, settings: CheckSettings, facts: CaseFacts) -> None:
        self.own = own
        self.settings = settings
        self.facts = facts
        self.grid: Grid | None = None

    def look(self, name: str, header: ImageHeader) -> None:
        image = self._read(name, header)
        if image is None:
            return
        facts = self.facts
        facts.pictures[name] = picture(image)
        if name == self.own.reference:
            self._find_crop(image)
        if name in self.own.masks:
            return  # It may be empty, and equal another's.
        for code, message in scan_problems(image):
            self._found(name, code, message)
            if code == "image.constant":
                return  # Two empty images are not copies of each other.
        if self.grid is not None:
            rule = self.settings.prepare.intensity_of(name)
            self._intensities(name, image, self.grid, rule)
        facts.contents[name] = content_hash(image)
        small = thumbnail_of(image)
        if small is not None:
            facts.thumbnails[name] = small

    def show_anyway(self, name: str) -> None:
        """Show what can be shown of an image whose header is refused, such as a sheared one."""
        wrong = {f.code for f in self.facts.findings if f.where == name and f.severity == "error"}
        if not wrong <= {"geometry.sheared", "geometry.affine"}:
            return
        path = self.own.files[name]
        try:
            stored = read_stored(path)
            lengths = np.linalg.norm(stored.affine[:3, :3], axis=0)
            sound = np.isfinite(lengths) & (lengths > 0)
            edges = np.diag([*np.where(sound, lengths, 1.0), 1.0])
            shown = Image(tuple(Volume(array, edges) for array in stored.array))
            self.facts.pictures[name] = picture(shown)
        except _FAILURES as error:
            raise_if_machine(error, path)
            return

    def _found(self, name: str, code: str, message: str) -> None:
        self.facts.findings.append(found(code, message, case=self.own.case, where=name))

    def _read(self, name: str, header: ImageHeader) -> Image | None:
        path = self.own.files[name]
        try:
            return read_image(path)
        except ImageError as error:
            raise_if_machine(error, path)
            told = error.code, without_path(error, path)
            problem = stream_problem(path, header) or told
        except _FAILURES as error:
            raise_if_machine(error, path)
            # SimpleITK raises RuntimeError. One strange file must not end the check of the others.
            problem = ("image.unreadable", f"reading it raised {type(error).__name__}")
        self._found(name, *problem)
        return None

    def _find_crop(self, image: Image) -> None:
        """Find the grid that preparing would resample onto; here nothing is."""
        prepare, volume = self.settings.prepare, image.first
        try:
            crop_mm = crop_of(image, prepare)
        except ImageError:
            return  # Found in the header already.
        shift = [0.0, 0.0, 0.0]
        if (mask := prepare.crop_around) is not None:
            if mask not in self.own.files:
                return
            path = self.own.files[mask]
            try:
                shift = crop_shift(volume, crop_mm, read_volume(path), mask).tolist()
            except ImageError as error:
                raise_if_machine(error, path)
                self._found(mask, "mask.crop", without_path(error, path))
                return
            beyond = max(padding_mm(volume, crop_mm, shift))
            short = any(f.code == "geometry.field-of-view" for f in self.facts.findings)
            if beyond > PADDING_MM and not short:
                message = f"the crop around {mask} reaches {beyond:.0f} mm beyond it"
                self._found(self.own.reference, "geometry.field-of-view", message)
        size = three_axes(prepare.size)
        self.grid = centred_grid(volume, crop_mm, size, shift=shift, straighten=prepare.straighten)

    def _intensities(self, name: str, image: Image, grid: Grid, rule: Intensity) -> None:
        """Ask whether preparing would find a window of intensities, by its own function."""
        if image.is_colour:
            return  # Colours have no window.
        try:
            intensity_window(name, finite(image.first)[0], grid, rule, image.white)
        except ImageError as error:
            known = {f.code for f in self.facts.findings if f.where == name}
            if error.code not in known:
                self._found(name, error.code, error.problem.removeprefix(f"{name}: "))
