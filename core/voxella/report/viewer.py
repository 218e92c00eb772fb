"""Section "Real and synthetic": pairs of volumes, to be leafed through in three planes.

The reports that volumes were made from: read only for a page that was asked to hold them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voxella.case import Case
from voxella.case.texts import texts_of
from voxella.hashing import sha256_bytes
from voxella.report.pairs import choose_pairs
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section
from voxella.report.sprites import Sprites, make_sprites
from voxella.report.whole_volumes import WholePair, whole_pair

__all__ = ["Viewer", "viewer_section"]

_CHANGED = "The report has changed since, or lies elsewhere: it is not shown."
_NO_REPORT = "No report: the model was asked with the empty one."


@dataclass(frozen=True)
class ViewedPair:
    """What the page shows of a pair.

    Attributes:
        caption: The case and, where there are several, the sequence.
        facts: Label, prediction.
        real: The real case's id; None without one.
        synthetic: The synthetic case's id.
        sprites: The pictures.
        report: The prompt, where that was asked for.
        whole: All voxels, where that was asked for and there is something to turn.
    """

    caption: str
    facts: str
    real: str | None
    synthetic: str
    sprites: Sprites
    report: str | None
    whole: WholePair | None = None


@dataclass(frozen=True)
class Viewer:
    """The section's data.

    Attributes:
        pairs: What can be chosen.
        cases: Synthetic cases there are in all.
        folder: Which data set, where a sweep has several.
    """

    pairs: list[ViewedPair]
    cases: int
    folder: str | None

    @property
    def planes(self) -> list[str]:
        """Return the planes that any pair has, axial first."""
        return [sprite.plane for sprite in max((p.sprites.planes for p in self.pairs), key=len)]

    @property
    def counterparts(self) -> bool:
        """Return whether a real case stands beside any."""
        return any(pair.real is not None for pair in self.pairs)

    @property
    def whole(self) -> bool:
        """Return whether whole volumes are there."""
        return any(pair.whole is not None for pair in self.pairs)

    @property
    def shrunk(self) -> bool:
        """Return whether any of these was made smaller."""
        return any(pair.whole is not None and pair.whole.shrunk for pair in self.pairs)

    @property
    def thinned(self) -> bool:
        """Return whether slices are left out."""
        return any(s.count < s.of for pair in self.pairs for s in pair.sprites.planes)


def viewer_section(
    run: RunFolder, *, cases: int, budget: int, with_reports: bool, volumes: int = 0
) -> Section:
    """Return the section.

    Args:
        run: The run.
        cases: Pairs at most; of several sequences, two cases at least.
        budget: Bytes for all pictures.
        with_reports: Show the prompts' text.
        volumes: Bytes for whole volumes; 0: none.

    Raises:
        UserError: A volume cannot be read.
    """
    head = ("real-and-synthetic", "Real and synthetic", "viewer.html")
    if run.synthetic is None:
        return Section(*head, absent=Absent("No volume was sampled yet.", run.command("sample")))
    pairs = choose_pairs(run, cases)
    if not pairs:
        why = "The sampled volumes are no longer on the disk."
        return Section(*head, absent=Absent(why, run.command("sample")))
    texts = prompt_texts(run, [pair.synthetic for pair in pairs]) if with_reports else {}
    several = len(run.recipe.data.sequences) > 1
    shown = []
    for pair in pairs:
        sides = pair.read()
        sprites = make_sprites(*sides, budget // len(pairs))
        whole = whole_pair(*sides, volumes // len(pairs)) if volumes else None
        source = run.shown(str(pair.synthetic.extra.get("source_case", pair.synthetic.id)))
        shown.append(
            ViewedPair(
                f"{source} · {pair.sequence}" if several else source,
                _facts(pair.synthetic),
                None if pair.real_path is None else source,
                run.shown(pair.synthetic.id),
                sprites,
                texts.get(pair.synthetic.id),
                whole,
            )
        )
    swept = None if run.samples == run.folders.samples else run.samples.name
    return Section(*head, data=Viewer(shown, len(run.synthetic), swept))


def _facts(case: Case) -> str:
    known = [case.label or "no label"]
    predicted, share = (case.extra.get(f"predicted_{what}") for what in ("label", "probability"))
    if predicted is not None and share is not None:
        known.append(f"text head: {predicted} {float(share):.2f}")
    return ", ".join(known)


def prompt_texts(run: RunFolder, cases: Iterable[Case]) -> dict[str, str]:
    """Return the prompt of each synthetic case; only what hashes to what the model was given."""
    from_file, found = run.prompts, {}
    for case in cases:
        wanted = case.extra.get("prompt_sha256")
        source = str(case.extra.get("source_case", case.id))
        data = from_file.get(source, b"") if from_file else _report(run, source)
        if wanted is None:
            found[case.id] = _NO_REPORT
        else:
            same = sha256_bytes(data) == wanted
            found[case.id] = data.decode("utf-8", "replace") if same else _CHANGED
    return found


def _report(run: RunFolder, source: str) -> bytes:
    if run.dataset is None:
        return b""
    case = next((case for case in run.dataset if case.id == source), None)
    names = () if case is None else texts_of(case.texts, run.recipe.text_source)
    if case is None or not names:
        return b""
    try:
        return (run.dataset.folder / case.texts[names[0]]).read_bytes()
    except OSError:
        return b""
