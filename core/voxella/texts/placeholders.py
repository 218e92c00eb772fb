"""What stands where a report is not: nan, None, N/A, a dash, a lone de-identification mark."""

from __future__ import annotations

import re
import unicodedata

from voxella.texts.markers import without_markers

__all__ = ["is_nothing", "is_placeholder", "stated"]

# Letters and digits only, small: "N/A", "[n.a.]" and "<NA>" are all "na".
_WORDS = frozenset(
    """
    nan none null nil na nat nul void undefined nothing empty blank missing unknown unavailable
    notavailable notapplicable noreport noreportavailable reportnotavailable reportmissing
    reportunavailable noreporttext notext notreported nodata notdone pending reportpending tbd
    tbc tobedone todo todefine seeattached seeattachment attached seereport seepdf test
    testreport report dummy placeholder loremipsum deleted removed redacted deidentified
    anonymized anonymised true false yes no ok x xx objectobject value string text nvt geen leeg
    onbekend geenverslag geenverslagbeschikbaar verslagvolgt verslag nietbeschikbaar
    niettoepassing nietvantoepassing nietbekend ja nee zieverslag ziebijlage ka keineangabe
    keineangaben keinbericht befundfolgt leer unbekannt entfaellt entfällt fehlt nichtverfügbar
    nichtvorhanden nein siebefund siehebefund sieheanlage folgt aucun aucune inconnu vide
    nondisponible nonrenseigne nonrenseigné sansobjet pasderapport ninguno ninguna vacio vacío
    desconocido nodisponible sininforme sindatos pendiente nessuno nessuna vuoto nondisponibile
    nd refertononinserito brak idem ditto asabove seeabove seebelow seereportabove seepriorreport
    seepreviousreport seescan seeimage seeimages seepacs reportinpacs reportnotyetavailable
    notyetavailable notyetreported notreportedyet unreported awaitingreport awaitingreporting
    tofollow reporttofollow reportfollows inprogress dictated dictatednotread emptystring zieboven
    zieonder ziepacs ziescan volgt nognietbeschikbaar sieheoben sieheunten siehepacs so su
    wieoben dito voircidessus voircidessous voirdossier voirpacs véasearriba verarriba vedisopra
    нет неизвестно 无 無 暂无 なし 없음
    """.split()
)
# What a program leaves for each of several empty fields.
_EMPTY = frozenset({"nan", "none", "null", "nil", "na", "nat", "undefined", "nvt", "ka"})
_ERROR = re.compile(
    r"#(?:n/?a|ref!|value!|name\?|div/0!|num!|null!|spill!|calc!|field!|getting_data|n/v|wert!|bezug!)",
    re.I,
)


# Of single cells less counts than of reports: a label may be "no", a code "0".
_NOTHING = frozenset(
    {"", "nan", "none", "null", "nil", "nat", "na", "n/a", "n.a.", "<na>", "#n/a", "-", "--", "?"}
)


def is_nothing(cell: str) -> bool:
    """Return whether a cell of ids, labels or numbers is empty, or says so: nan, N/A, a dash.

    Programs write these for empty cells; taken by the letter, all patients without a number are
    one patient called nan.
    """
    return cell.strip().casefold() in _NOTHING


def is_placeholder(text: str) -> bool:
    """Return whether a text that is not blank says nothing: no letter, or one of the usual words.

    Brackets, quotes, punctuation and letter case do not count; nor do characters that cannot be
    seen.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    if _ERROR.fullmatch(plain):
        return True
    letters = "".join(c for c in plain.casefold() if c.isalnum())
    if not any(c.isalpha() for c in letters) or letters in _WORDS:
        return True
    if plain == r"\N" or _each_is_one(plain):
        return True
    if len(letters) < 40 and letters.removeprefix("text").removeprefix("report") in _WORDS | {""}:
        # {"text": ""}, report: none
        return True
    return not any(c.isalpha() for c in without_markers(plain))


def _each_is_one(text: str) -> bool:
    """Return whether every word is one that programs write for nothing: "None, None", "nan nan".

    Fields that were joined to one report have left it for each of them.
    """
    words = re.split(r"[\s,;|]+", text.casefold())
    bare = ["".join(c for c in word if c.isalnum()) for word in words]
    return len(bare) > 1 and all(not word or word in _EMPTY for word in bare)


def stated(text: str) -> str:
    """Return a report's text, "" where it says nothing; for every stage that reads reports."""
    return "" if not text.strip() or is_placeholder(text) else text
