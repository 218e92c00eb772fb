"""What the ``dicom`` importer does: headers, judgement, pixels, and the manifest last."""

from __future__ import annotations

from pathlib import Path

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.importers.dicom_choice import Chosen, name_series
from voxella.importers.dicom_headers import Asked
from voxella.importers.dicom_identity import load_identity
from voxella.importers.dicom_journal import Journal
from voxella.importers.dicom_judge import Judged, judge, refuse, tell
from voxella.importers.dicom_pixels import write_stack
from voxella.importers.dicom_scan import scan
from voxella.importers.dicom_settings import DicomSettings
from voxella.importers.dicom_stack import Refusal
from voxella.importers.dicom_tables import Joined, join_tables
from voxella.importers.drafts import Assembly, Draft
from voxella.progress import Steps

__all__ = ["DicomImporter"]


class DicomImporter:
    """Reads folders of DICOM into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: DicomSettings, assembly: Assembly) -> None:
        problems = [*settings.problems(), *assembly.problems()]
        if problems:
            raise UserError("\n".join(f"importer dicom: {problem}" for problem in problems))
        self.settings = settings
        self.assembly = assembly

    def __call__(self, out: Path) -> Manifest:
        """Write images, reports and the manifest under ``out``.

        Images that an earlier, stopped import finished are kept.

        Raises:
            UserError: All problems of all studies, files and tables at once, before anything is
                written; or pixels that cannot be read after all.
        """
        settings, out = self.settings, Path(out)
        if out.resolve().is_relative_to(settings.source.resolve()):
            raise UserError(
                f"{out} lies in the source {settings.source}, which is only read",
                remedy="choose another --out",
            )
        identity = load_identity(settings.key_file, out)
        asked = Asked(identity, settings.rules, settings.keyed_by, settings.keep)
        found = scan(settings.source, asked)
        if not found.studies and not found.bad:
            raise UserError(
                f"{settings.source}: none of its {found.files} files is a DICOM image",
                remedy="name the folder that holds the DICOM files; NIfTI and MetaImage come by a "
                "table of their paths: voxella import table",
            )
        judged = judge(found, settings)
        joined = join_tables(judged.joins, settings, identity, out)
        refuse(judged, joined.problems, skip_bad=settings.skip_bad)
        tell(found, judged)
        joined.tell()
        identity.keep()
        journal = Journal(out, identity)
        self._convert(judged, journal, out)
        manifest = self._manifest(judged, joined, out)
        journal.remove()
        return manifest

    def _convert(self, judged: Judged, journal: Journal, out: Path) -> None:
        """Write the images of all studies; drop those that cannot be read where that is wanted."""
        failed = Judged()
        with Steps("studies to NIfTI", len(judged.volumes)) as steps:
            for case, volumes in judged.volumes.items():
                problems = [
                    f"{sequence}: {problem}"
                    for sequence, chosen in volumes.items()
                    if (problem := _image(case, sequence, chosen, journal, out)) is not None
                ]
                if problems:
                    failed.studies[case] = problems
                steps.advance()
        for case in failed.studies:
            judged.volumes.pop(case)
        failed.volumes = judged.volumes
        refuse(failed, [], skip_bad=self.settings.skip_bad)

    def _manifest(self, judged: Judged, joined: Joined, out: Path) -> Manifest:
        drafts = [
            Draft(
                id=case,
                patient=judged.patients[case],
                images={name: out / _relative(case, name) for name in volumes},
                report=joined.reports.get(case),
                label=joined.labels.get(case),
                label_source=self.settings.label_source,
                extra=dict(next(iter(volumes.values())).series.kept),
            )
            for case, volumes in judged.volumes.items()
        ]
        manifest = self.assembly.write(drafts, out)
        # The images lie in the data set already, and it may be moved as a whole.
        cases = [
            case.model_copy(update={"images": {n: _relative(case.id, n) for n in case.images}})
            for case in manifest
        ]
        manifest = Manifest(out, cases)
        manifest.write()
        return manifest


def _relative(case: str, sequence: str) -> str:
    return f"images/{case}_{sequence}.nii.gz"


def _image(case: str, sequence: str, chosen: Chosen, journal: Journal, out: Path) -> str | None:
    """Write one image unless it is there; return what kept it from being written, or None."""
    relative = _relative(case, sequence)
    if journal.has(relative, chosen.stack):
        return None
    try:
        write_stack(chosen.stack, out / relative)
    except Refusal as refusal:
        return f"{name_series(chosen.series)}: {refusal}"
    journal.add(relative, chosen.stack)
    return None
