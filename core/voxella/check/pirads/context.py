"""What the words about a PI-RADS score make of it: stated, denied, or of another time or kind.

Rules for English, Dutch and German. They err on the side of doubt: a cue anywhere in the sentence
puts a score aside; only a denial right before it ("no suspicious PI-RADS 4 lesion") takes it away.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import Enum

from voxella.check.pirads.mentions import Mention

__all__ = ["Context", "Verdict"]


class Verdict(Enum):
    """What a mention says about this examination."""

    STATED = "stated"
    DENIED = "denied"
    DOUBTFUL = "doubtful"


# Characters of a sentence that are looked at on either side, should it never end.
_FAR = 500
_END = re.compile(
    r"(?<![.!?])[.!?]+[)\]\"\u201d]?\s+(?=[A-ZÄÖÜ(\[\u2022*\d\"-])"
    r"|\n\s*\n|\n(?=\s*(?:[-\u2022*\u2013]|\d{1,2}[.)])\s)|\n(?=[^\n:]{1,40}:)"
)
# Not a sentence's end: single letters ("i.v.", "z.B.") and these.
_ABBREVIATED = re.compile(
    r"(?:\b[^\W\d_]|\b(?:nr|no|evt|evtl|ca|bv|bijv|resp|bzw|vs|incl|inkl|max|approx|ggf|dd|vgl|cf|fig"
    r"|abb|img|ser|li|re|mog|waarsch))$",
    re.I,
)

# Staging and nodes are denied in most reports: that says nothing of the lesion, unless the denial
# goes on to it ("no extension or PI-RADS 4 lesion").
_STAGING = re.compile(
    r"\b(?:no|not|without|geen|zonder|kein\w{0,2}|ohne)\s(?:[\w-]{1,20}\s){0,4}?"
    r"(?:[\w-]*(?:extension|invasion|uitbreiding|ingroei|doorgroei|infiltration|überschreitung"
    r"|durchbruch|ausdehnung|wachstum|bulging)\w*|epe|ece|svi|e\.?c\.?e\.?"
    r"|(?:lymph|lymf|metast|adenopath)\w*)",
    re.I,
)
_NO = (
    r"(?:no(?!\.?\s?\d)|not|without|neither|nor|never|none|nothing|geen|niets?|zonder"
    r"|noch|nooit|kein(?:e|en|er|em|es)?|nichts?|ohne|weder|nie)"
)
_DENIAL = re.compile(
    rf"\b(?:{_NO}|absen(?:t|ce)|exclude[sd]?|excluding|ruled? out|cannot|can't|isn't|unlikely"
    r"|uitgesloten|uit te sluiten|afwezig\w*|uitsluiten|ausgeschlossen|ausschluss)\b",
    re.I,
)
# Between a denial and the name, words that leave the denial about the lesion itself.
_DENIED = re.compile(
    rf"\b{_NO}\s(?:(?:any|a|an|clear|definite|convincing|evidence|signs?|of|for|with|suspicious"
    r"|focal|lesions?|area|focus|foci|een|duidelijke|verdachte|focale|aanwijzing(?:en)?|voor|la?esies?"
    r"|afwijking(?:en)?|met|van|hinweise?|auf|für|eine[rns]?|suspekten?|sichere[rns]?|fokale[rns]?"
    r"|läsion(?:en)?|herde?s?|mit|nach|classified|geclassificeerd|klassifizierte?n?|as|als"
    r"|higher|than)\s){0,6}[\(\[\"']?$",
    re.I,
)
_STAGED = "\u00ac"
_GOES_ON = re.compile(rf"{_STAGED}.*\b(?:or|nor|and|of|noch|en|oder|und)\b", re.I)
_BUT = re.compile(r"\b(?:but|however|maar|echter|wel|aber|jedoch|sondern)\b|;", re.I)
_BREAK = re.compile(r"[,;:()\[\]]|\s[-\u2013\u2014]\s")

_OTHER_TIME = re.compile(
    r"\b(?:previous(?:ly)?|prior|earlier|former(?:ly)?|known|history|outside|initial(?:ly)?|compar\w+"
    r"|upgrad\w+|downgrad\w+|regress\w*|resol\w+|disappear\w*|no longer|since|baseline"
    r"|eerder\w*|voorheen|vorige?|voormalig\w*|bekende?|voorgeschiedenis|destijds|oude|vroeger|reeds"
    r"|verge?l[ei]+j?k\w*|verdwenen|elders|sinds|voorafgaand\w*|toen"
    r"|früher\w*|zuvor|vorher\w*|vor(?:bekannt|befund|untersuchung|aufnahme|mrt)\w*|voraufnahmen"
    r"|bekannt\w*|ehemal\w*|damal\w*|vergl\w+|anamnes\w*|extern\w*|rückläufig\w*|verschwunden\w*|seit"
    r"|erstdiagnos\w*|status (?:na|post|nach)|nicht mehr|niet meer|(?:19|20)\d\d)\b"
    r"|\bt\.?\s?o\.?\s?v\.?(?!\w)|\b\d{1,2}[-./]\d{1,2}[-./]\d{2,4}\b",
    re.I,
)
_THEN_NOW = re.compile(
    r"\b(?:now|nu|jetzt|thans|current(?:ly)?|aktuell\w*|momenteel|heute|inzwischen|inmiddels)\b|→|->",
    re.I,
)
_GENERAL = re.compile(
    r"\b(?:if|when|should|in cases?|would|could|criteri\w+|defin\w+|guidelines?|threshold|cut-?off"
    r"|recommended (?:for|in|if)|scales?|legende?a?|means|stands for|indicat(?:es|ed for|ion for)"
    r"|e\.g|richtlijn\w*|indien|wanneer|geadviseerd bij|schaal|betekent|bijvoorbeeld"
    r"|leitlinie\w*|falls|wenn|sofern|skala|bedeutet|empfohlen bei|zum beispiel)\b|^\W*als\b",
    re.I,
)
# Right before the name.
_MAYBE = re.compile(
    r"(?:\b(?:may be|might be|possibl[ye]|probabl[ye]|perhaps|question(?:able)?|equivocal for"
    r"|versus|vs|was|were|from|than|below|above|(?:upgrade|downgrade) to|for|in|of all|among|all"
    r"|not only|mogelijke?|wellicht|eventue\w+|dubieus\w*|d\.?d|onder|boven|dan|niet alleen"
    r"|möglich\w*|eventuell\w*|evtl|fraglich\w*|war|waren|unter|über|als nur|bei)\b|\?)\.?\s?"
    r"(?:(?:a|an|any|the|een|de|eine?[rnsm]?)\s)?$",
    re.I,
)
_BIOPSY = re.compile(
    r"\bbiop\w+\s(?:of|from|in|van|uit|von|aus|der|des)\b[^.,;]{0,20}$|\bz\.?\s?n\.", re.I
)
# Dutch "bij" is "in case of", but for "past het best bij": "fits best with".
_BIJ = re.compile(r"\bbij\s(?:een\s|de\s)?$", re.I)
_FITS = re.compile(r"\bpass?(?:t|en|ende?)\s(?:\w{1,15}\s){0,3}bij\s(?:een\s|de\s)?$", re.I)
_SEQUENCE = re.compile(
    r"\b(?:t2w?i?|dwi|dce|adc|diffusi\w+|perfusi\w+)\b(?:\s?[-:]|\s[\w-]{1,14})?\s?$", re.I
)

_HISTORY = re.compile(
    r"(?:^|[\n.,;])[^\S\n]*"
    r"(?:(?:relevante?\s)?(?:clinical|klinische|medical|medische)\s?[\w ]{0,20}"
    r"|indicati(?:on|e)|indikation|history|anamnese|(?:gerichte )?vraagstelling|fragestellung"
    r"|(?:relevante )?voorgeschiedenis|vorgeschichte|reason for [\w ]{1,20}|question|comparison"
    r"|vergelijking|vergleich|voronderzoek|voruntersuchung(?:en)?|prior (?:exams?|imaging|mri))"
    r"[^\S\n]*(?::|\s-\s|\.?[^\S\n]*\n)",
    re.I,
)
_CURRENT = re.compile(
    r"(?:^|[\n.,;])[^\S\n]*(?:techni(?:que|ek|k)|protocol|protokoll|examination|report|verslag"
    r"|findings?|bevinding(?:en)?|befund|impressi(?:on|e)|conclusi(?:on|e)s?|beurteilung|opinion"
    r"|oordeel|zusammenfassung|samenvatting|summary|mri [\w ]{1,20}|prostate?|prostaat|onderzoek)"
    r"[^\S\n]*(?::|\s-(?:\s|$)|\.?[^\S\n]*\n)",
    re.I,
)


class Context:
    """The sentences and sections of one report.

    Args:
        text: The report; white space of any kind counts as a space in the rules.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(m.end() for m in _END.finditer(text) if not _goes_on(text, m))]
        headings = [(m.end(), True) for m in _HISTORY.finditer(text)]
        headings += [(m.end(), False) for m in _CURRENT.finditer(text)]
        self._headings = sorted(headings)

    def judge(self, mention: Mention) -> Verdict:
        """Return what a mention with scores says about this examination."""
        before, after = self._around(mention)
        positive = (mention.highest or 0) >= 3
        if denied := _DENIED.search(before):
            # "No suspicious lesion (PI-RADS 1)": the score of the absence.
            absence = not positive and denied[0].endswith("(")
            return Verdict.STATED if absence and not mention.doubt else Verdict.DENIED
        aside = mention.doubt or self._is_history(mention.start)
        aside = aside or any(cue.search(before + " … " + after) for cue in (_OTHER_TIME, _GENERAL))
        aside = aside or any(cue.search(before) for cue in (_MAYBE, _BIOPSY, _SEQUENCE))
        aside = aside or (_BIJ.search(before) is not None and not _FITS.search(before))
        aside = aside or _THEN_NOW.search(after) is not None
        aside = aside or (positive and (_denied_before(before) or _denied_after(after)))
        return Verdict.DOUBTFUL if aside else Verdict.STATED

    def _around(self, mention: Mention) -> tuple[str, str]:
        """Return the rest of the sentence before and after a mention, staging denials left out."""
        index = bisect_right(self._starts, mention.start)
        end = bisect_right(self._starts, mention.end)
        first = self._starts[index - 1]
        last = self._starts[end] if end < len(self._starts) else len(self._text)
        before = self._text[max(first, mention.start - _FAR) : mention.start]
        return _plain(before), _plain(self._text[mention.end : min(last, mention.end + _FAR)])

    def _is_history(self, place: int) -> bool:
        index = bisect_right(self._headings, (place, True))
        return index > 0 and self._headings[index - 1][1]


def _goes_on(text: str, end: re.Match[str]) -> bool:
    """Return whether a full stop ends an abbreviation and not the sentence."""
    full_stop = end[0].startswith(".") and not end[0].startswith("..")
    return (
        full_stop and _ABBREVIATED.search(text[max(0, end.start() - 12) : end.start()]) is not None
    )


def _plain(part: str) -> str:
    return _STAGING.sub(f"{_STAGED}, ", re.sub(r"\s+", " ", part))


def _denied_before(before: str) -> bool:
    """Return whether a denial before a score may reach it: all do, but for a "but" in between."""
    denials = list(_DENIAL.finditer(before))
    if _GOES_ON.search(before):
        return True
    return bool(denials) and _BUT.search(before, denials[-1].end()) is None


def _denied_after(after: str) -> bool:
    """Return whether a denial after a score may be of it: "PI-RADS 4 is not seen"."""
    return any(_reaches_back(after, denial) for denial in _DENIAL.finditer(after))


def _reaches_back(after: str, denial: re.Match[str]) -> bool:
    # "PI-RADS 4, no cyst" speaks of something else; "PI-RADS 4, not seen" and ": none" do not.
    between = _BREAK.search(after[: denial.start()])
    of_its_own = denial[0].lower().startswith(("geen", "kein", "without", "zonder", "ohne"))
    of_its_own = of_its_own or denial[0].lower() == "no"
    return between is None or between[0] == ":" or not of_its_own
