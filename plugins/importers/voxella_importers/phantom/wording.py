"""Phrases a report is put together from, those on lesions apart: ``lesion_wording``.

Fixed phrases never say left, right, midline, base, mid-gland or apex, give no size in mm and no
category: only what is filled in from the facts does, so a report cannot contradict them.
"""

from __future__ import annotations

__all__ = [
    "BENIGN",
    "BLADDER",
    "BONES",
    "CLINICAL",
    "CLOSING",
    "HEADINGS",
    "HISTORY",
    "NODES",
    "PERIPHERAL",
    "PERIPHERAL_OTHERWISE",
    "RECTUM",
    "SHORT_VOLUME",
    "TECHNIQUE",
    "TRANSITION",
    "VESICLES",
    "VOLUME",
]

CLINICAL = (
    "{age}-year-old man, PSA {psa} ng/ml. {history}",
    "{age} y/o male. PSA: {psa} ng/mL. {history}",
    "Elevated PSA ({psa} ng/ml), {age} years old. {history}",
    "Patient aged {age}. Serum PSA {psa}. {history}",
    "PSA {psa}. {history} Age {age}.",
    "{history} Latest PSA {psa} ng/ml in a {age} year old patient.",
)
HISTORY = (
    "No previous biopsy.",
    "Biopsy naive.",
    "Previous negative biopsy.",
    "Rising PSA.",
    "Suspicious digital rectal examination.",
    "Positive family history.",
    "Lower urinary tract symptoms.",
    "Under surveillance for a raised PSA.",
    "Query significant prostate cancer.",
    "Please evaluate for clinically significant cancer.",
)
TECHNIQUE = (
    "MRI of the prostate at {tesla} T without endorectal coil.",
    "{tesla} Tesla MRI, axial T2-weighted images.",
    "Axial high-resolution T2 TSE, {tesla}T, phased-array coil.",
    "T2-weighted imaging on a {tesla} T system, assessed according to PI-RADS v2.1.",
    "Multiplanar T2-weighted sequences were acquired at {tesla} T.",
    "Prostate MRI, {tesla} T, pelvic coil. Image quality is adequate.",
)
VOLUME = (
    "The prostate measures {dimensions} cm with a volume of {volume} ml.",
    "Prostate volume: {volume} ml ({dimensions} cm).",
    "Gland size {dimensions} cm, estimated volume {volume} cc.",
    "The gland has a calculated volume of {volume} ml.",
    "Volume of the prostate approximately {volume} mL, PSA density {density}.",
    "Prostate of {volume} ml. PSA density {density} ng/ml/ml.",
)
SHORT_VOLUME = (
    "Prostate volume {volume} ml.",
    "The gland has a calculated volume of {volume} ml.",
    "Prostate of {volume} ml.",
    "Estimated volume {volume} cc.",
)
# by enlargement: small, moderate, large
TRANSITION = (
    (
        "No relevant hyperplasia of the central gland.",
        "The central gland is not enlarged and has few nodules.",
        "Minimal benign hyperplasia.",
        "Little nodular change centrally.",
    ),
    (
        "Moderate benign prostatic hyperplasia with encapsulated nodules.",
        "The central gland shows nodular hyperplasia of moderate extent.",
        "BPH with mixed stromal and glandular nodules.",
        "Typical heterogeneous, nodular appearance of BPH.",
    ),
    (
        "Marked enlargement of the central gland by BPH nodules.",
        "Pronounced benign hyperplasia with multiple nodules compressing the outer gland.",
        "Extensive BPH.",
        "Severe nodular hyperplasia, impression on the bladder floor.",
    ),
)
PERIPHERAL = (
    "The {pz} shows normal high T2 signal.",
    "Homogeneous bright signal of the {pz}.",
    "The {pz} is of normal signal intensity.",
    "{Pz}: bright on T2, no circumscribed signal loss.",
)
PERIPHERAL_OTHERWISE = (
    "The remaining {pz} shows normal high T2 signal.",
    "Otherwise homogeneous bright signal of the {pz}.",
    "Elsewhere the {pz} is unremarkable.",
    "The rest of the {pz} is of normal signal intensity.",
)
VESICLES = (
    "Seminal vesicles are unremarkable.",
    "The seminal vesicles are symmetrical and free.",
    "No seminal vesicle invasion.",
    "Normal seminal vesicles.",
)
NODES = (
    "No enlarged pelvic lymph nodes.",
    "No suspicious lymphadenopathy.",
    "Lymph nodes within normal limits.",
    "No pathological pelvic nodes.",
)
BONES = (
    "No suspicious bone lesion in the field of view.",
    "Visualised skeleton without metastases.",
    "The included bones are unremarkable.",
)
# by filling: empty, half, full
BLADDER = (
    ("The bladder is nearly empty.", "Poorly filled urinary bladder."),
    ("Bladder moderately filled, wall unremarkable.", "Normal urinary bladder."),
    ("Well distended bladder.", "The urinary bladder is full, with a smooth wall."),
)
RECTUM = {
    "gas": ("Gas in the rectum.", "The rectum is distended by gas."),
    "stool": ("Stool in the rectum.", "The rectal ampulla contains faeces."),
    "empty": ("The rectum is empty.", "Collapsed rectum."),
}
BENIGN = ("Benign prostatic hyperplasia.", "BPH.", "Enlarged prostate.")
CLOSING = (
    "Recommend targeted biopsy.",
    "Discussion in the multidisciplinary meeting is advised.",
    "Correlation with PSA density suggested.",
    "Targeted sampling is recommended.",
)
# clinical information, technique, findings, impression
HEADINGS = (
    ("CLINICAL INFORMATION:", "TECHNIQUE:", "FINDINGS:", "IMPRESSION:"),
    ("Clinical history:", "Technique:", "Findings:", "Conclusion:"),
    ("Indication:", "Protocol:", "Report:", "Impression:"),
    ("INDICATION", "EXAMINATION", "FINDINGS", "CONCLUSION"),
    ("Clinical details -", "MRI prostate -", "Findings -", "Opinion -"),
    ("", "", "", "Conclusion:"),
    ("", "", "", ""),
)
