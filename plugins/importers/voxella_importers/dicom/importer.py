"""What the ``dicom`` importer does: headers, judgement, pixels, and the manifest last.

Which volumes are finished already: an import that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from pathlib import Path

from voxella.case import Manifest
from voxella.data.drafts import CaseDraft, DatasetWriter
from voxella.errors import UserError
from voxella.files import append_line
from voxella.hashing import sha256_file
from voxella.plain_json import json_or_none
from voxella.progress import Steps
from voxella_importers.dicom.choice import Chosen, name_series
from voxella_importers.dicom.headers import Asked
from voxella_importers.dicom.identity import Identity, load_identity
from voxella_importers.dicom.judge import Judged, judge, refuse, warn_of_doubts
from voxella_importers.dicom.keep import as_conditions
from voxella_importers.dicom.pixels import write_stack
from voxella_importers.dicom.scan import scan
from voxella_importers.dicom.settings import DicomSettings
from voxella_importers.dicom.stack import Refusal, Stack
from voxella_importers.dicom.tables import Joined, join_tables

__all__ = ["DicomImporter"]

_NAME = ".import-journal.jsonl"
# Goes up when the same files would be written otherwise.
_VERSION = 1


class DicomImporter:
    """Reads folders of DICOM into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: DicomSettings, dataset_writer: DatasetWriter) -> None:
        problems = [*settings.problems(), *dataset_writer.problems()]
        if problems:
            raise UserError("\n".join(f"importer dicom: {problem}" for problem in problems))
        self.settings = settings
        self.dataset_writer = dataset_writer

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
        asked = Asked(identity, settings.rules, settings.keyed_by, settings.read)
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
        warn_of_doubts(found, judged)
        joined.warn()
        identity.keep()
        resume_log = ResumeLog(out, identity)
        self._convert(judged, resume_log, out)
        manifest = self._manifest(judged, joined, out)
        resume_log.remove()
        return manifest

    def _convert(self, judged: Judged, resume_log: ResumeLog, out: Path) -> None:
        """Write the images of all studies; drop those that cannot be read where that is wanted."""
        failed = Judged()
        with Steps("studies to NIfTI", len(judged.volumes)) as steps:
            for case, volumes in judged.volumes.items():
                problems = [
                    f"{sequence}: {problem}"
                    for sequence, chosen in volumes.items()
                    if (problem := _image(case, sequence, chosen, resume_log, out)) is not None
                ]
                if problems:
                    failed.studies[case] = problems
                steps.advance()
        for case in failed.studies:
            judged.volumes.pop(case)
        failed.volumes = judged.volumes
        refuse(failed, [], skip_bad=self.settings.skip_bad)

    def _manifest(self, judged: Judged, joined: Joined, out: Path) -> Manifest:
        settings = self.settings
        headers = {
            case: next(iter(volumes.values())).series.kept
            for case, volumes in judged.volumes.items()
        }
        drafts = [
            CaseDraft(
                id=case,
                group=judged.patients[case],
                images={name: out / _relative(case, name) for name in volumes},
                report=joined.reports.get(case),
                label=joined.labels.get(case),
                label_source=settings.label_source,
                conditions=as_conditions(headers[case], settings.conditions),
                extra={k: v for k, v in headers[case].items() if k in settings.keep},
            )
            for case, volumes in judged.volumes.items()
        ]
        manifest = self.dataset_writer.write(drafts, out)
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


def _image(
    case: str, sequence: str, chosen: Chosen, resume_log: ResumeLog, out: Path
) -> str | None:
    """Write one image unless it is there; return what kept it from being written, or None."""
    relative = _relative(case, sequence)
    if resume_log.has(relative, chosen.stack):
        return None
    try:
        write_stack(chosen.stack, out / relative)
    except Refusal as refusal:
        return f"{name_series(chosen.series)}: {refusal}"
    resume_log.add(relative, chosen.stack)
    return None


class ResumeLog:
    """Lines of (image, what it was made from, hash of its file), removed when all is done.

    Args:
        out: The data set's folder.
        identity: Hashes what an image is made from: file sizes and times go with nobody's name,
            but they need not be told either.
    """

    def __init__(self, out: Path, identity: Identity) -> None:
        self._out = out
        self._identity = identity
        self._path = out / _NAME
        self._done = self._read()

    def has(self, relative: str, volume: Stack) -> bool:
        """Return whether the image lies there, unharmed and made from these very files."""
        made_from, digest = self._done.get(relative, ("", ""))
        path = self._out / relative
        same = made_from == self._source(volume) and path.is_file()
        return same and sha256_file(path) == digest

    def add(self, relative: str, volume: Stack) -> None:
        """Note a finished image."""
        line = json.dumps([relative, self._source(volume), sha256_file(self._out / relative)])
        append_line(self._path, line)

    def remove(self) -> None:
        """Remove the log: the manifest now says what there is."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, tuple[str, str]]:
        done: dict[str, tuple[str, str]] = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            noted = json_or_none(line)
            if noted is None:
                continue  # the line that was being written
            relative, made_from, digest = noted
            done[relative] = (made_from, digest)
        return done

    def _source(self, volume: Stack) -> str:
        files = [
            (one.uid, one.frame, (stat := one.path.stat()).st_size, stat.st_mtime_ns)
            for one in volume.slices
        ]
        return self._identity.digest("volume", json.dumps([_VERSION, *files]))
