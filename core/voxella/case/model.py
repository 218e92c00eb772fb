"""One case: what every importer writes and every stage reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo
from typing_extensions import deprecated

from voxella.case_fields import GUARDED, conditions_problem, field_problem

__all__ = ["LONGEST_ID", "Case", "ConditionValue", "Split"]

# A number or a word; None where it is not known.
ConditionValue = float | str | None
Split = Literal["train", "val", "test"]
LONGEST_ID = 128


class Case(BaseModel):
    """One study. Paths are relative to the data set's folder. Report TEXT is never in here.

    Attributes:
        id: Unique in the data set; letters, digits, ``_ - .`` only, for it names files.
        group: Whose it is: the patient, the slide. Cases of one group always share a split, and
            statistics count groups, not cases. Manifests from before call it ``patient``.
        images: File by sequence name (``t2w``, ``adc``, ``hbv``, ...).
        report: File that holds the report's text (UTF-8), or None when there is no report.
        report_sha256: Hash of the report file's bytes.
        label: Class name (one of ``recipe.data.classes``), or None when unknown.
        label_source: Where the label comes from: ``pirads``, ``isup``, ``table``, ``phantom``...
        truth: File beside the case that holds a phantom's known facts, or None.
        conditions: What a model may be conditioned on, by name: numbers (age, PSA) and words
            (scanner); None, or absent, where it is not known.
        extra: Anything else that an importer wants kept; never free text.
    """

    # An exception's words may go anywhere; what stands in a wrong field may be a report.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=LONGEST_ID)
    group: str
    images: dict[str, str]
    report: str | None = None
    report_sha256: str | None = None
    label: str | None = None
    label_source: str | None = None
    split: Split = "train"
    truth: str | None = None
    # Left out where there is none: manifests and hashes from before are those without it.
    conditions: dict[str, ConditionValue] = Field(
        default_factory=dict, exclude_if=lambda conditions: not conditions
    )
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Take what manifests from before call by other names; both names at once are refused."""
        if not isinstance(value, Mapping) or "patient" not in value or "group" in value:
            return value
        return {("group" if name == "patient" else name): v for name, v in value.items()}

    @field_validator("conditions", mode="before")
    @classmethod
    def _numbers_and_words(cls, value: Any) -> Any:  # noqa: ANN401 - any field
        if (why := conditions_problem(value)) is not None:
            raise ValueError(why)
        return value

    @field_validator(*GUARDED)
    @classmethod
    def _no_sentence(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - any field
        if (why := field_problem(str(info.field_name), value)) is not None:
            raise ValueError(f"{why}: free text is not kept in a manifest")
        return value

    @property
    @deprecated("a case's patient is its group: write case.group", category=DeprecationWarning)
    def patient(self) -> str:
        """Return ``group`` under its former name, for one release."""
        return self.group

    def hashed(self, leave_out: Collection[str] = ()) -> dict[str, Any]:
        """Return all fields as JSON values for a hash that says whether a case has changed.

        Names are those of the first manifests, so that what was made before is known again.

        Args:
            leave_out: Fields that do not matter to it.
        """
        values = self.model_dump(mode="json", exclude=set(leave_out))
        if "group" in values:
            values["patient"] = values.pop("group")
        return values
