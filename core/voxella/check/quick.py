"""The quick form of the check: the manifest and the images' headers, no voxel and no report.

Every later stage can afford it: some milliseconds a case.

A manifest read to its end: every bad line is a finding, every good one a case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxella.case import Case, Fault, Manifest, read_cases
from voxella.case import relations as faults_between
from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.check.geometry import Placement, header_problems, placement
from voxella.check.grids import case_grids, odd_planes
from voxella.check.headers import read_header
from voxella.check.image_header import HeaderProblem, ImageHeader
from voxella.check.settings import CaseImages, CheckSettings, images_of
from voxella.imaging.problem import ImageError, Problem

__all__ = [
    "CaseHeaders",
    "across_cases",
    "case_headers",
    "quick_check",
    "read_leniently",
    "refuse_errors",
]

_THREADS = 4


@dataclass(frozen=True)
class CaseHeaders:
    """What the headers of a case's images say.

    Attributes:
        findings: What is wrong with them.
        headers: By sequence, of the images whose voxels may be read.
        places: By sequence, of the images that say where they lie.
        planes: Plane of acquisition by sequence, of those that are no masks.
    """

    findings: list[Finding]
    headers: dict[str, ImageHeader]
    places: dict[str, Placement]
    planes: dict[str, str | None]


def quick_check(manifest: Manifest, settings: CheckSettings) -> list[Finding]:
    """Check a data set by its manifest and headers only.

    Args:
        manifest: The data set.
        settings: Which sequences and which crop.
    """

    def look(case: Case) -> tuple[list[Finding], CaseHeaders]:
        images, absent = images_of(manifest, case, settings)
        return absent, case_headers(images, settings)

    findings = list(relations(manifest))
    planes: dict[str, dict[str, str | None]] = {}
    # Threads suffice: what takes time is opening files, often on another machine.
    with ThreadPoolExecutor(_THREADS) as pool:
        for case, (absent, headers) in zip(manifest, pool.map(look, manifest), strict=True):
            findings += [*absent, *headers.findings]
            planes[case.id] = headers.planes
    return [*findings, *across_cases(manifest, planes, settings)]


def refuse_errors(own: CaseImages, findings: Iterable[Finding]) -> None:
    """Refuse a case for what the check calls an error; warnings and notes never stop one.

    Raises:
        ImageError: All of the case's errors, one after the other; the code is the first one's.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        files = {name: str(path) for name, path in own.files.items()}
        told = [f"{files.get(str(e.where), e.where)}: {e.message} ({e.code})" for e in errors]
        raise ImageError("; ".join(told), code=errors[0].code, remedy=errors[0].remedy)


def case_headers(own: CaseImages, settings: CheckSettings) -> CaseHeaders:
    """Read and judge the headers of one case's images; never raises for a file."""
    findings: list[Finding] = []
    headers: dict[str, ImageHeader] = {}
    places: dict[str, Placement] = {}
    for name, path in own.files.items():
        # What is not finite, or overflows, is a finding and not a warning of numpy's.
        with np.errstate(all="ignore"):
            # A mask is grey whatever it lies on.
            colour = False if name in own.masks else settings.wants_colour(name)
            header, problems, place = _look(path, colour)
        wrong = [found(code, text, case=own.case, where=name) for code, text in problems]
        findings += wrong
        if header is not None and not any(finding.severity == "error" for finding in wrong):
            headers[name] = header
        if place is not None:
            places[name] = place
    findings += case_grids(own, places, settings)
    planes = {name: place.plane for name, place in places.items() if name not in own.masks}
    return CaseHeaders(findings, headers, places, planes)


def _look(
    path: Path, colour: bool | None
) -> tuple[ImageHeader | None, list[Problem], Placement | None]:
    try:
        header = read_header(path)
    except HeaderProblem as problem:
        return None, [(problem.code, problem.message)], None
    return header, header_problems(header, colour), placement(header, colour)


def across_cases(
    cases: Iterable[Case],
    planes: Mapping[str, Mapping[str, str | None]],
    settings: CheckSettings,
) -> Iterator[Finding]:
    """Name cases that differ from most: in their plane of acquisition or in their sequences."""
    yield from odd_planes(planes)
    if settings.sequences is not None:
        return
    cases = list(cases)
    names = dict.fromkeys(name for case in cases for name in case.images)
    for name in names:
        having = sum(name in case.images for case in cases)
        for case in cases if 2 * having > len(cases) else ():
            if case.images and name not in case.images:
                message = f"no {name}, which {having} of {len(cases)} cases have"
                yield found("image.uneven-sequences", message, case=case.id, where=name)


def read_leniently(folder: Path) -> tuple[Manifest, list[Finding]]:
    """Return the cases that can be read, in file order, and what is wrong with the manifest.

    Everything that :meth:`Manifest.read` refuses is an error here: both read by the same function.

    Raises:
        UserError: There is no manifest, or it is longer than the limit.
    """
    cases, faults = read_cases(Path(folder))
    findings = [_finding(fault) for fault in faults]
    if not cases:
        findings.append(found("manifest.empty", "no case can be read from the manifest"))
    return Manifest(Path(folder), cases), findings


def relations(cases: Iterable[Case]) -> Iterator[Finding]:
    """Name paths that leave the data set, and all cases of patients who stand in two splits."""
    return map(_finding, faults_between(cases))


def _finding(fault: Fault) -> Finding:
    message = fault.message if fault.line is None else f"line {fault.line}: {fault.message}"
    return found(fault.code, message, case=fault.case, where=fault.where)
