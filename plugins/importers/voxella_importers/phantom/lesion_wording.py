"""Phrases on lesions: where, how they look, what to think of them; and on their absence.

The places' own words apart, they keep the rule of ``wording``.
"""

from __future__ import annotations

__all__ = [
    "CAPSULE_CLEAR",
    "CAPSULE_CONTACT",
    "FOCUS",
    "LESION",
    "LEVEL",
    "NO_LESION",
    "PLACE",
    "PLACE_MIDLINE",
    "SHORT",
    "SIGNAL",
    "SUMMARY",
    "SUMMARY_NONE",
    "SUSPICION",
    "ZONE",
]

ZONE = {
    "peripheral": ("peripheral zone", "PZ", "peripheral zone (PZ)"),
    "transition": ("transition zone", "TZ", "transitional zone", "transition zone (TZ)"),
}
LEVEL = {
    "base": ("base", "basal third", "base of the gland"),
    "mid": ("mid-gland", "midgland", "middle third"),
    "apex": ("apex", "apical third", "apex of the gland"),
}
PLACE = (
    "in the {side} {zone} at the {level}",
    "in the {zone} on the {side}, {level}",
    "in the {level} of the {zone}, {side} side",
    "in the {zone} of the {side} lobe at the level of the {level}",
    "{side} {zone}, {level}",
)
PLACE_MIDLINE = (
    "in the midline {zone}, anteriorly, at the {level}",
    "in the anterior {zone} in the midline, {level}",
    "in the {level} of the anterior {zone}, midline",
    "anterior midline {zone}, {level}",
)
# by category, then by zone
SIGNAL = {
    2: {
        "peripheral": (
            "mildly hypointense wedge-shaped",
            "faint, slightly dark",
            "linear, subtly hypointense",
        ),
        "transition": (
            "mostly encapsulated, mildly hypointense",
            "faint, slightly dark",
            "subtly hypointense",
        ),
    },
    3: {
        "peripheral": (
            "moderately hypointense, ill-defined",
            "indistinct, intermediate-signal",
            "non-circumscribed moderately dark",
        ),
        "transition": (
            "heterogeneous, moderately hypointense",
            "obscured-margin, intermediate-signal",
            "indistinct moderately dark",
        ),
    },
    4: {
        "peripheral": (
            "circumscribed, markedly hypointense",
            "focal dark",
            "homogeneous, moderately to markedly hypointense",
        ),
        "transition": (
            "lenticular, homogeneous hypointense",
            "non-circumscribed, homogeneously dark",
            "smudgy dark",
        ),
    },
    5: {
        "peripheral": (
            "large, markedly hypointense",
            "bulky, homogeneous dark",
            "extensive markedly hypointense",
        ),
        "transition": (
            "large lenticular hypointense",
            "bulky, homogeneously dark",
            "extensive 'erased charcoal'",
        ),
    },
}
LESION = (
    "There is a {signal} lesion {place}, measuring {size}{score}.",
    "{Signal} lesion {place}, {size}{score}.",
    "{Place}: {signal} lesion of {size}{score}.",
    "A {size} {signal} lesion is seen {place}{score}.",
    "{Signal} area {place} with a maximum diameter of {size}{score}.",
)
FOCUS = (
    "There is a {signal} focus {place}, {size}{score}, most likely benign.",
    "{Signal} area of {size} {place}{score}, probably inflammatory or atrophic.",
    "{Place}: {signal} focus of {size}{score}, of benign appearance.",
    "A {size} {signal} focus {place} is not suspicious{score}.",
)
NO_LESION = (
    "No focal lesion suspicious for clinically significant cancer.",
    "No circumscribed suspicious focus is seen.",
    "There is no focal T2 hypointensity of concern.",
    "No suspicious lesion identified.",
    "Nothing focal to suggest malignancy.",
)
CAPSULE_CLEAR = (
    "The capsule is intact.",
    "No extraprostatic extension.",
    "Capsular contour smooth, neurovascular bundles preserved.",
    "No sign of extracapsular growth.",
)
CAPSULE_CONTACT = (
    "Broad contact with the capsule; microscopic extraprostatic extension cannot be excluded.",
    "The lesion abuts the capsule over a long distance without gross extension.",
    "Long capsular contact, no overt extraprostatic extension.",
)
SUSPICION = {
    2: ("clinically significant cancer unlikely", "low suspicion"),
    3: ("equivocal", "intermediate suspicion", "significant cancer equivocal"),
    4: ("clinically significant cancer likely", "high suspicion", "suspicious"),
    5: ("clinically significant cancer highly likely", "very high suspicion", "highly suspicious"),
}
SHORT = (
    "Lesion of {size} {place}, {pirads}.",
    "{Place}: lesion of {size}, {pirads}.",
    "A {size} lesion {place} ({pirads}).",
)
SUMMARY = (
    "{Pirads} lesion {place} ({size}): {suspicion}.",
    "{size} lesion {place}, {pirads}, {suspicion}.",
    "Lesion {place}, {pirads}, {suspicion}.",
    "Lesion {place}, {size}. {Pirads}: {suspicion}.",
    "{Place}: {pirads} ({suspicion}).",
)
SUMMARY_NONE = (
    "{Pirads}: clinically significant cancer highly unlikely.",
    "No evidence of clinically significant prostate cancer. {Pirads}.",
    "No suspicious lesion, {pirads}.",
    "Benign findings only ({pirads}).",
    "Unsuspicious prostate MRI, {pirads}.",
)
