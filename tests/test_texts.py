"""What counts as text, as a report, as an id: the rules that import, check and stages share."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxella.texts.documents import document_of_bytes, document_of_text
from voxella.texts.encodings import decode, encoding_problem
from voxella.texts.garbled import find_garbled
from voxella.texts.ids import alike, id_problem, trimmed
from voxella.texts.markers import find_markers, without_markers
from voxella.texts.placeholders import is_placeholder, stated

# One sentence each in the encodings that hospitals' systems write.
FOREIGN = {
    "cp1251": "Очаг в левой доле простаты, 12 мм",
    "koi8-r": "Очаг в левой доле простаты, 12 мм",
    "cp437": "Läsion größer als 12 mm",
    "cp850": "Läsion größer als 12 mm",
    "cp1252": "Läsion „links“ \u2013 größer als 12 mm",
    "latin-1": "Läsion links, größer als 12 mm",
    "iso8859_2": "podejrzenie świeżego ogniska w strefie obwodowej",
    "cp1250": "podejrzenie świeżego ogniska w strefie obwodowej",
    "iso8859_7": "Βλάβη στην αριστερή περιφερική ζώνη",
    "gb18030": "前列腺左侧外周带见结节\uff0c建议活检。",
    "big5": "前列腺左側外周帶見結節\uff0c建議活檢。",
    "shift_jis": "前立腺左葉に結節を認める",
    "euc_jp": "前立腺左葉に結節を認める",
    "cp949": "전립선 좌엽에 결절이 있다",
    "mac_roman": "Läsion größer als 12 mm",
}
PLAIN = [
    "Lesion left. PI-RADS 4.",
    "o.B.",
    "mri\u793aadc\u4e0edwi\u5f02\u5e38, psa\u5347\u9ad8",
    "1½ cm, ½, T2+ADC-map, +DWI-, 1½mm, ¼ of it",
    "From: ward 3\nTo: Dr. B\nDate: 3 May\nLesion <5 mm> left, <none> seen.",
    '"Lesion left", said the "second reader".',
    "{Lesion} left [T2: axial]. OBX seen | none",
    "Begin 644: lesion",
    "Unauffällig.",
    "Kein Befund.",
    "No finding.",
    "Null lesions: none seen.",
    "Normal.",
    "PI-RADS 2",
    "See above the bladder: lesion.",
    "PSA < 4, ADC > 900; b-value <1000> s/mm2, T2 [axial], {see below}",
    "Hernia “links” \u2013 Größe 12\xd79 mm², 37 °C, 5 µm, ½, «rechts».",
    *FOREIGN.values(),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("told", [None, "windows-1252"])
def test_unicode_is_read_whatever_was_told(encoding: str, told: str | None) -> None:
    text = "PI\u2011RADS 4, größer"
    assert decode(text.encode(encoding), told) == (text, encoding)


@pytest.mark.parametrize(("encoding", "text"), FOREIGN.items())
def test_other_encodings_are_asked_for_and_then_held_to(encoding: str, text: str) -> None:
    data = text.encode(encoding)
    with pytest.raises(ValueError, match=r"is not UTF-8 \(byte \d+ of \d+\).*encoding=NAME") as no:
        decode(data)
    assert "\\x" not in str(no.value)
    assert decode(data, encoding) == (text, encoding)


def test_the_detector_is_heard() -> None:
    report = "Опухоль в левой доле предстательной железы. Рекомендована биопсия. " * 3
    with pytest.raises(ValueError, match="it may be windows-1251"):
        decode(report.encode("cp1251"))
    with pytest.raises(ValueError, match="it may be gb18030"):
        decode((FOREIGN["gb18030"] * 3).encode("gb18030"))


def test_what_is_told_wrongly_is_refused() -> None:
    with pytest.raises(ValueError, match="is not euc_jp, as it was told to be"):
        decode("Läsion links, größer.".encode("cp1252"), "euc_jp")
    # Latin-1 has a character for any byte, and letters for few of these.
    with pytest.raises(ValueError, match="control characters when it is read as latin-1"):
        decode("Läsion “links”".encode("cp1252"), "latin-1")
    with pytest.raises(ValueError, match="control characters when it is read as latin-1"):
        decode(FOREIGN["shift_jis"].encode("shift_jis"), "latin-1")
    with pytest.raises(ValueError, match="begins with the byte-order mark of UTF-16, and"):
        decode(codecs.BOM_UTF16_LE + b"\x00\xd8x")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named(encoding: str) -> None:
    data = "Lesion left, größer.".encode(encoding)
    with pytest.raises(ValueError, match=f"without a byte-order mark.*encoding={encoding}"):
        decode("Lesion left.".encode(encoding))
    assert decode(data, encoding) == ("Lesion left, größer.", encoding)


def test_ascii_bytes_that_are_no_ascii_text() -> None:
    data = FOREIGN["shift_jis"].encode("iso2022_jp")
    assert data.isascii()
    with pytest.raises(ValueError, match="escape sequences of ISO-2022"):
        decode(data)
    assert decode(data, "iso2022_jp")[0] == FOREIGN["shift_jis"]


def test_names_of_encodings() -> None:
    assert [encoding_problem(name) for name in (None, "windows-1251", "GB18030", "latin1")] == [
        None
    ] * 4
    for name in ("hex", "rot13", "unicode_escape", "punycode", "windows", "", "a\0b"):
        assert "windows-1252" in str(encoding_problem(name)), name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.3\n", "a PDF document"),
        (b"\xef\xbb\xbf\r\n %PDF-1.7", "a PDF document"),
        (b"{\\rtf1\\ansi Befund}", "an RTF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word document"),
        (b"PK\x03\x04\x14\x00", "a Word"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\x89PNG\r\n", "a picture"),
        (b"\xff\xd8\xff\xe0", "a picture"),
        (b"%!PS-Adobe", "a PostScript document"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git-LFS pointer"),
        (b"\x04%!PS-Adobe", "a PostScript document"),
        (b"\xffWPC\x10\0", "a WordPerfect document"),
        (b"PAR1\x15\x04", "a Parquet table"),
    ],
)
def test_documents_are_known_by_their_bytes(data: bytes, words: str) -> None:
    assert words in str(document_of_bytes(data))
    assert document_of_bytes(b"Lesion left. " + data[:4]) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\ufeff{\\rtf1\\ansi Befund}", "an RTF document"),
        ("<html><body><p>Findings</p></body></html>", "HTML"),
        ("<!DOCTYPE HTML>\nFindings", "HTML"),
        ("Findings: lesion<br/>left", "HTML"),
        ("<p>Findings: lesion</p>", "HTML"),
        ("<b>Findings</b>: lesion", "HTML"),
        ("<div class='r'>Findings", "HTML"),
        ('<?xml version="1.0"?><r>Findings</r>', "XML"),
        ('<ClinicalDocument xmlns="urn:hl7-org:v3">', "XML"),
        ("MSH|^~\\&|RIS|HOSP|||2024||ORU^R01", "an HL7 message"),
        ('{"report": "Lesion left"}', "JSON"),
        ('["Lesion left"]', "JSON"),
        ("['Lesion', 'left']", "JSON"),
        ("MIME-Version: 1.0\nContent-Type: text/plain\n\nLesion", "an e-mail"),
        ("-----BEGIN PGP MESSAGE-----\n", "encrypted"),
        ("JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoK" * 8, "base64"),
        ("data:application/pdf;base64,JVBERi0xLjQK", "base64"),
        ("https://ris.hospital.example/report/17", "a link"),
        ("\r\n\r\n   \n{\\rtf1\\ansi Befund}", "an RTF document"),
        ("\\rtf1\\ansi\\deff0 Befund \\par", "an RTF document"),
        ("{\\*\\generator x}{\\rtf1 Befund}", "an RTF document"),
        ("HTTP/1.1 200 OK\r\n\r\n%PDF-1.4\n1 0 obj", "a PDF document"),
        ("OBX|1|TX|59776-5^FINDINGS^LN||Lesion left.||||||F\r", "an HL7 message"),
        ("\x0bMSH|^~\\&|A|B\rOBX|1|TX|||Lesion\r\x1c\r", "an HL7 message"),
        ('{"findings": "Lesion left"}\n{"findings": "none"}\n', "JSON"),
        ('{"findings": "Lesion left, cut he', "JSON"),
        ('"Lesion left.\\nPI-RADS 4."', "JSON"),
        ("<p>Findings: lesion", "HTML"),
        ("<report><finding>Lesion</finding></report>", "XML"),
        ('<ns:report xmlns:ns="x">Lesion left</ns:report>\n', "XML"),
        ("<TEXT>Lesion left</TEXT>", "XML"),
        ("From: a@b.example\nTo: c\nSubject: MR\n\nLesion left", "an e-mail"),
        ("\\documentclass{article}\\begin{document}Lesion", "LaTeX"),
        ("begin 644 r.txt\n-3&5S:6]N(&QE9G0*\n`\nend\n", "uuencoded"),
        ("[InternetShortcut]\r\nURL=http://x/y", "a link"),
        ("r.txt", "the name of a file"),
        ("Reports\\Case 7.DOCX", "the name of a file"),
        ("images/a.nii.gz", "the name of a file"),
    ],
)
def test_documents_are_known_by_their_text(text: str, words: str) -> None:
    assert words in str(document_of_text(text))


@pytest.mark.parametrize(
    "text",
    [
        *("nan", "None", "NULL", "N/A", "-", "[]", "{}", "n/a", "NaT", "<NA>", "#N/A", "#REF!"),
        *("--", "...", "?", "0", "12.5", "''", '""', "[nan]", "['']", '{"text": ""}', "(null)"),
        *("n.v.t.", "k. A.", "keine Angabe", "geen verslag", "No report available.", "pending"),
        *("see attachment", "unknown", "undefined", "[object Object]", "True", "x", "XXX", "无"),
        *("___", "[REDACTED]", "[NAME] [DATE]", "\u200b\ufeff", "\u00a0-\u00a0", "TBD"),
        *("null.", "---", "[ ]", "see above", "See report above.", "idem", "ditto", "s. o.", r"\N"),
        *("None, None", "NaN NaN", "n/a n/a", "nan\nnan", "N/A; N/A", "See PACS", "zie boven"),
        *("Report not yet available", "awaiting report", "To follow.", "siehe oben", "in progress"),
    ],
)
def test_what_says_nothing_is_no_report(text: str) -> None:
    assert is_placeholder(text)
    assert stated(text) == ""


@pytest.mark.parametrize("text", PLAIN)
def test_plain_reports_are_left_alone(text: str) -> None:
    assert stated(text) == text
    assert document_of_text(text) is None
    assert find_garbled(text) == []
    assert find_markers(text) == []
    assert without_markers(text) == text


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("größer, Läsion", "cp1252"),
        ("größer, Läsion", "latin-1"),
        ("podejrzenie świeżego", "cp1250"),
        ("Простата", "cp1251"),
        ("Простата", "koi8-r"),
        ("größer", "cp437"),
        ("前列腺左侧外周带结节", "latin-1"),
    ],
)
def test_utf_8_that_was_read_wrongly_is_found(text: str, wrong: str) -> None:
    garbled = text.encode().decode(wrong, "replace")
    assert find_garbled(garbled)
    assert not find_garbled(text)


@pytest.mark.parametrize(
    ("text", "true", "wrong"),
    [
        ("Очаг в левой доле простаты", "cp1251", "latin-1"),
        (FOREIGN["gb18030"], "gb18030", "latin-1"),
        (FOREIGN["shift_jis"], "shift_jis", "latin-1"),
        ("Läsion größer", "cp437", "cp1252"),
        ("podejrzenie świeżego ogniska", "iso8859_2", "latin-1"),
        ("podejrzenie świeżego ogniska", "iso8859_2", "gb18030"),
        ("un œdème du cœur", "iso8859_15", "cp1252"),
        ("30 €", "iso8859_15", "cp1252"),
        ("Läsion größer", "utf-7", "ascii"),
    ],
)
def test_other_encodings_that_were_read_as_western_are_found(
    text: str, true: str, wrong: str
) -> None:
    assert find_garbled(text.encode(true).decode(wrong))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("L?sion gr??er", "?"),
        ("???? ?????", "????"),
        ("9&nbsp;mm", "&nbsp;"),
        ("gr=C3=B6=C3=9Fer", "=C3=B6=C3=9F"),
        ("gr\\u00f6\\u00dfer", "\\u00f6"),
        ("Left._x000D_Right", "_x000D_"),
        ("Left.\\nRight", "\\n"),
        ("Lesion \ufffd left", "\ufffd"),
        ("Lesion\x00 left", "\x00"),
    ],
)
def test_lost_and_escaped_letters_are_found(text: str, part: str) -> None:
    start, end = find_garbled(text)[0]
    assert text[start:end] == part


@pytest.mark.parametrize(
    "marker",
    [
        *("___", "_" * 12, "[NAME]", "[name]", "[Patient Name]", "[DATE 1]", "[PERSON_12]"),
        *("[** **]", "[**2101-3-4**]", "[**Hospital1 18**]", "[[DOCTOR]]", "<DATE>", "<PERSOON>"),
        *(
            "<RAPPORT_ID.T_NUMMER>",
            "<patient name>",
            "{NAME}",
            "{{DATE}}",
            "XXXX",
            "xxx",
            "XX/XX/XXXX",
        ),
        *(
            "**NAME[AAA BBB]",
            "**DATE<Jan 01 2020>",
            "*****",
            "@@NAME@@",
            "|DATE|",
            "████",
            "(redacted)",
        ),
        *("[REDACTED]", "REDACTED", "[de-identified]", "#####"),
    ],
)
def test_markers_are_found_and_taken_out(marker: str) -> None:
    text = f"Seen by {marker} on Monday.\nLesion left."
    ((start, end),) = find_markers(text)
    assert text[start:end] == marker
    assert without_markers(text) == "Seen by on Monday.\nLesion left."


@given(st.text(max_size=80))
def test_taking_markers_out_takes_all_of_them_out_at_once(text: str) -> None:
    bare = without_markers(text)
    assert bare == text or len(bare) < len(text)
    if find_markers(text):
        assert bare.count("\n") <= text.count("\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P001", "p001"),
        ("P001", "P1"),
        ("007", "7"),
        ("7.0", "7"),
        ("P-7", "P 7"),
        ("P_7", "P7"),
        ("M\u00fcller", "Mu\u0308ller"),
        ("P\uff17", "P7"),
        ("P\u200b7", "P7"),
        ("P\u00a07", "P 7"),
        ("\u0420\u041c1", "PM1"),  # Cyrillic
        ("\u03911", "a1"),  # Greek
    ],
)
def test_ids_that_may_be_one(one: str, other: str) -> None:
    assert alike([one, other, "Q"]) == [sorted([one, other])]


def test_ids_that_are_not() -> None:
    assert alike(["1-12", "11-2", "112", "10000_1000000", "10000_1000001", "0", "10", "P10"]) == []


def test_what_may_not_stand_in_an_id() -> None:
    for character in "\u2028\u2029\x85\x0b\x1c\u200b\u200e\ufeff\u00ad\u2060\u3164\ue000\x00":
        assert f"U+{ord(character):04X}" in str(id_problem(f"P{character}1")), repr(character)
    for name in ("1.23E+15", "1,23e+15", "1E+05"):
        assert "scientific" in str(id_problem(name))
    for name in ("P 1", "Müller", "12e34", "1E5", "p-1_2.3", "读1"):
        assert id_problem(name) is None
    assert trimmed("\ufeff\u200b id \u00a0\u200e") == "id"
