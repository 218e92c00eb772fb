"""Keyed pseudonyms: a synthetic data set may leave the hospital, so it names no patient.

What lies on the disk (ids, file names, patients, sources, hashes of reports) is the HMAC-SHA256 of
the real value under a secret of the run, cut to 64 bits. Whoever has the run's key, which no export
takes along, and the real cases can undo it: evaluation and the page do, in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.data.keys import keyed_hash, new_key, read_key, write_key
from voxella.errors import UserError
from voxella.files import write_text_atomic

__all__ = ["KEY", "TABLE", "Pseudonyms", "read_synthetic"]

KEY = "pseudonyms.key"
TABLE = "pseudonyms.csv"
_DIGITS = 16
_SYNTHETIC = "synthetic-"
# RUN/samples, or one data set of a sweep, RUN/samples/steps-50.
_LEVELS = 3


class Pseudonyms:
    """Names in place of names.

    Args:
        key: The secret, 32 random bytes as hexadecimal digits.
    """

    def __init__(self, key: str) -> None:
        self._key = bytes.fromhex(key)

    @classmethod
    def of(cls, run: Path) -> Pseudonyms:
        """Return those of a run; its key is drawn when there is none, readable by the owner only.

        Raises:
            UserError: The key file is damaged.
        """
        try:
            write_key(run / KEY, new_key())
        except FileExistsError:
            pass  # what is there already bears names that it gave
        return cls(_key_in(run / KEY))

    @classmethod
    def beside(cls, samples: Path) -> Pseudonyms | None:
        """Return those of the run that a synthetic data set lies in, or None: there is no key."""
        for folder in [samples, *samples.absolute().parents][:_LEVELS]:
            if (folder / KEY).is_file():
                return cls(_key_in(folder / KEY))
        return None

    def mark(self, kind: str, value: str) -> str:
        """Return the pseudonym of a value: the same for the same kind and value."""
        return keyed_hash(self._key, kind, value)[:_DIGITS]

    def case(self, case_id: str) -> str:
        """Return what stands for a case's id."""
        return f"c{self.mark('case', case_id)}"

    def patient(self, patient: str) -> str:
        """Return what stands for the patient of a synthetic counterpart."""
        return f"{_SYNTHETIC}{self.mark('patient', patient)}"

    def report(self, report_sha256: str | None) -> str | None:
        """Return what stands for the hash of a report; None stays None."""
        return None if report_sha256 is None else self.mark("report", report_sha256)

    def check(self, cases: Iterable[Case]) -> None:
        """Refuse a key under which two cases, or two patients, have one name.

        Raises:
            UserError: They have. It happens once in billions of runs.
        """
        found = list(cases)
        patients, ids = {case.group for case in found}, {case.id for case in found}
        same_patients = len({self.patient(patient) for patient in patients}) < len(patients)
        if same_patients or len({self.case(case_id) for case_id in ids}) < len(ids):
            raise UserError(
                f"two cases have one pseudonym under the run's {KEY}",
                remedy=f"remove RUN/{KEY} and sample again: another key is drawn",
            )

    def write_table(self, run: Path, cases: Iterable[Case]) -> Path:
        """Write which pseudonym is whose, for people who have the run; return the file.

        Rows of earlier cases stay; a file that has all rows is not written again.
        """
        path = run / TABLE
        known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [f"{self.case(case.id)},{case.id}" for case in cases]
        lines = list(dict.fromkeys(["pseudonym,case", *known, *rows]))
        return path if lines == known else write_text_atomic(path, "\n".join(lines) + "\n")


def read_synthetic(
    samples: Path, real: Iterable[Case], prompts_sha256: Iterable[str] = ()
) -> Manifest:
    """Read a synthetic data set, its sources named where the run's key and the real cases tell.

    Paths stay those on the disk. A data set that names its sources itself, or whose key is not at
    hand, is returned as it is.

    Args:
        samples: Its folder.
        real: Cases that it may have been made from.
        prompts_sha256: Hashes of prompts that it may have been made from.

    Raises:
        UserError: There is no data set, or its key is damaged.
    """
    manifest = Manifest.read(samples)
    names = Pseudonyms.beside(samples)
    if names is None:
        return manifest
    known = list(real)
    of_case = {names.case(case.id): case for case in known}
    texts = {digest for case in known for digest in case.texts_sha256.values()}
    of_report = {names.report(digest): digest for digest in texts | set(prompts_sha256)}
    return Manifest(manifest.folder, [_named(case, of_case, of_report) for case in manifest])


def _named(case: Case, of_case: dict[str, Case], of_report: dict[str | None, str]) -> Case:
    told = case.extra.get("prompt_sha256")
    extra = {**case.extra}
    if told in of_report:
        extra["prompt_sha256"] = of_report[told]
    source = of_case.get(str(case.extra.get("source_case")))
    if source is None:
        return case.model_copy(update={"extra": extra})
    extra["source_case"] = source.id
    name = case.id.replace(str(case.extra["source_case"]), source.id, 1)
    return case.model_copy(
        update={"id": name, "group": f"{_SYNTHETIC}{source.group}", "extra": extra}
    )


def _key_in(path: Path) -> str:
    key = read_key(
        path,
        remedy=f"restore it from a backup; or rm {path}, then voxella sample makes every volume "
        "again under new names",
    )
    return key.hex()
