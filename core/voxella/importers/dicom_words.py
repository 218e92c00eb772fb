"""Series descriptions that can be shown: the words of MR protocols, and nothing somebody typed.

A description is typed at the scanner and sometimes holds a name, a number or a date. Only words on
a fixed list pass; what stands between them is an ellipsis.
"""

from __future__ import annotations

import re

__all__ = ["known_modality", "shown_description"]

_WORDS = frozenset(
    """
    2d 3d ax axial tra trans transverse transversal sag sagittal cor coronal obl oblique iso
    t1 t1w t2 t2w t2star pd pdw tse fse frfse ssfse haste space spc cube vista blade propeller
    tirm stir flair fs fatsat spair dixon water fat opp inphase in phase out
    ep2d epi se ge gre flash vibe lava thrive tfl twist tricks dyn dynamic dynamisch dce perf
    perfusion ktrans diff diffusion dwi dti adc eadc dadc trace tracew b bval bvals calc calcbval
    dyndist dyndistcalc dyndistcalcbval dist mix dis2d dis3d nd norm hbv high low highb synthetic
    resolve zoomit focus rfov prostate prostaat prostata pelvis bekken becken loc localizer
    localiser scout survey plan ref map mip mpr sub subtraction contrast post pre km gd fast
    hires hr small fov large whole body mr mri
    """.split()
)
_NUMBERED = re.compile(r"b\d{1,4}t?|t[12]w?")
_MODALITIES = frozenset(
    "CT PT US CR DX MG NM XA RF OT SC SR PR KO SEG RTSTRUCT RTPLAN RTDOSE RTIMAGE".split()
)


def shown_description(description: str) -> str:
    """Return the description with every word that is not on the list left out."""
    shown: list[str] = []
    for word in re.findall(r"[^\W_]+", description):
        known = word.lower() in _WORDS or _NUMBERED.fullmatch(word.lower())
        part = word if known else "…"
        if part != "…" or shown[-1:] != ["…"]:
            shown.append(part)
    return "_".join(shown)


def known_modality(modality: str) -> str:
    """Return a modality that the standard defines; other words could be anything."""
    return modality if modality in _MODALITIES else "another modality"
