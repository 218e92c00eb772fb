"""One case: what every importer writes and every stage reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo
from typing_extensions import deprecated

from voxella.case.texts import ANY, REPORT, TEXT_NAME, in_order, texts_of
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
        texts: File that holds each text (UTF-8) by its name: ``report``, ``impression``...
        texts_sha256: Hash of each file's bytes; of prepared and synthetic cases, which have no
            texts of their own, of those that they come from.
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
    texts: dict[str, str] = Field(default_factory=dict, exclude_if=lambda texts: not texts)
    texts_sha256: dict[str, str] = Field(default_factory=dict, exclude_if=lambda texts: not texts)
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
        if not isinstance(value, Mapping):
            return value
        now = dict(value)
        if "patient" in now and "group" not in now:
            now["group"] = now.pop("patient")
        for former, field in (("report", "texts"), ("report_sha256", "texts_sha256")):
            if former in now and field not in now:
                told = now.pop(former)
                now |= {} if told is None else {field: {REPORT: told}}
        return now

    @field_validator("conditions", mode="before")
    @classmethod
    def _numbers_and_words(cls, value: Any) -> Any:  # noqa: ANN401 - any field
        if (why := conditions_problem(value)) is not None:
            raise ValueError(why)
        return value

    @field_validator("texts", "texts_sha256")
    @classmethod
    def _names_of_texts(cls, value: dict[str, str]) -> dict[str, str]:
        # The name is not quoted: it may be a text itself.
        if not all(TEXT_NAME.fullmatch(name) and name != ANY for name in value):
            raise ValueError("a text's name is letters, digits and _ - only, 32 at most, not any")
        return {name: value[name] for name in in_order(value)}

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

    @property
    def report(self) -> str | None:
        """Return the file of the text that is called ``report``, or None."""
        return self.texts.get(REPORT)

    @property
    def report_sha256(self) -> str | None:
        """Return the hash of the text that is called ``report``, or None."""
        return self.texts_sha256.get(REPORT)

    def text_sha256(self, source: str) -> str | None:
        """Return the hash of the first text that a recipe reads; see its ``text.source``."""
        return next((self.texts_sha256[n] for n in texts_of(self.texts_sha256, source)), None)

    def hashed(self, leave_out: Collection[str] = ()) -> dict[str, Any]:
        """Return all fields as JSON values for a hash that says whether a case has changed.

        Names are those of the first manifests, so that what was made before is known again.

        Args:
            leave_out: Fields that do not matter to it.
        """
        values = self.model_dump(mode="json", exclude=set(leave_out))
        if "group" in values:
            values["patient"] = values.pop("group")
        for former, field in (("report", "texts"), ("report_sha256", "texts_sha256")):
            if field not in leave_out:
                files = values.pop(field, {})
                values[former] = files.pop(REPORT, None)
                values |= {field: files} if files else {}
        return values
