"""Phrases a pathology report is put together from.

Fixed phrases never give a number, a side, a grade or a result: only what is filled in from the
facts does, so a report cannot contradict them.
"""

from __future__ import annotations

__all__ = [
    "ADDITIONAL",
    "CLINICAL",
    "GRADE",
    "GROSS",
    "HEADINGS",
    "HER2",
    "IN_SITU",
    "KIND",
    "LYMPHOCYTES",
    "MARGIN",
    "NECROSIS",
    "NODES",
    "RECEPTOR",
    "SCORE",
    "SIZE",
    "SPECIMEN",
    "TYPE",
    "VESSELS",
]

# Specimen, diagnosis, comment, clinical history, gross description.
HEADINGS = (
    ("SPECIMEN: ", "FINAL DIAGNOSIS: ", "COMMENT: ", "CLINICAL HISTORY: ", "GROSS DESCRIPTION: "),
    ("Specimen: ", "Diagnosis: ", "Comment: ", "Clinical information: ", "Macroscopy: "),
    ("Specimen(s) received. ", "Final pathologic diagnosis. ", "Note. ", "History. ", "Gross. "),
    ("SPECIMEN:\n", "DIAGNOSIS:\n", "COMMENT:\n", "CLINICAL DIAGNOSIS AND HISTORY:\n", "GROSS:\n"),
)
SPECIMEN = (
    "Breast, {side}, excision and axillary lymph nodes.",
    "{Side} breast, mastectomy with lymph nodes.",
    "{Side} breast lumpectomy; sentinel and axillary nodes.",
    "Breast tissue, {side}; lymph nodes.",
)
KIND = {
    "ductal": (
        "invasive ductal carcinoma",
        "infiltrating ductal carcinoma",
        "invasive carcinoma of no special type (ductal)",
        "invasive mammary carcinoma, ductal type",
    ),
    "lobular": (
        "invasive lobular carcinoma",
        "infiltrating lobular carcinoma",
        "invasive mammary carcinoma, lobular type",
    ),
}
TYPE = (
    "{Kind}.",
    "Tumor type: {kind}.",
    "Histologic type: {kind}.",
    "Sections show {kind}.",
)
GRADE = {
    1: ("well differentiated", "low grade", "grade 1", "Nottingham grade I"),
    2: ("moderately differentiated", "intermediate grade", "grade 2", "Nottingham grade II"),
    3: ("poorly differentiated", "high grade", "grade 3", "Nottingham grade III"),
}
SCORE = (
    "Histologic grade: {grade}, Nottingham score {total}/9 "
    "(tubules {tubules}, nuclei {nuclei}, mitoses {mitoses}).",
    "{Grade}; score {total} of 9 (tubules={tubules}, nuclei={nuclei}, mitoses={mitoses}).",
    "Nottingham grade: {grade} (tubules {tubules}, nuclear pleomorphism {nuclei}, "
    "mitoses {mitoses}; total {total}).",
)
SIZE = (
    "Tumor size (greatest dimension): {size}.",
    "Tumor size: {size}, measured grossly.",
    "Maximum tumor size {size}.",
    "The invasive tumor measures {size} in greatest dimension.",
)
NODES = {
    True: (
        "Lymph nodes: {positive} of {nodes} positive for metastatic carcinoma.",
        "Metastatic carcinoma in {positive} of {nodes} lymph nodes.",
        "{positive}/{nodes} lymph nodes positive for tumor.",
    ),
    False: (
        "Lymph nodes: {nodes} examined, negative for tumor.",
        "No metastatic carcinoma in {nodes} lymph nodes (0/{nodes}).",
        "0 of {nodes} lymph nodes positive for metastatic carcinoma.",
    ),
}
RECEPTOR = {
    True: (
        "{Name} receptor: positive ({percent}%).",
        "{Name} receptors positive in {percent}% of tumor cells.",
        "{Short}: positive, {percent}%.",
    ),
    False: (
        "{Name} receptor: negative.",
        "{Name} receptors negative.",
        "{Short}: negative.",
    ),
}
HER2 = {
    0: ("HER2: negative (0).", "HER-2/neu by immunohistochemistry negative, score 0."),
    1: ("HER2: negative (1+).", "HER-2/neu by immunohistochemistry negative, score 1+."),
    2: ("HER2: equivocal (2+).", "HER-2/neu by immunohistochemistry equivocal, score 2+."),
    3: ("HER2: positive (3+).", "HER-2/neu by immunohistochemistry positive, score 3+."),
}
MARGIN = {
    True: ("Margins: negative, nearest {margin}.", "Margins free of tumor, closest {margin}."),
    False: ("Margins: involved by tumor.", "Invasive carcinoma extends to the inked margin."),
}
VESSELS = {
    True: ("Lymphovascular invasion: present.", "Venous/lymphatic invasion identified."),
    False: ("Lymphovascular invasion: absent.", "Venous/lymphatic invasion not identified."),
}
IN_SITU = {
    True: ("Carcinoma in situ: present.", "An in situ component is present."),
    False: ("Carcinoma in situ: absent.", "No in situ component is seen."),
}
NECROSIS = {
    True: ("Tumor necrosis: present.", "Foci of tumor necrosis are seen."),
    False: ("Tumor necrosis: absent.", "No tumor necrosis."),
}
LYMPHOCYTES = {
    True: (
        "Tumor-infiltrating lymphocytes: brisk.",
        "A prominent lymphoid infiltrate accompanies the tumor.",
        "Marked lymphocytic response.",
    ),
    False: (
        "Tumor-infiltrating lymphocytes: sparse.",
        "Scant lymphoid infiltrate.",
        "Little lymphocytic response.",
    ),
}
ADDITIONAL = (
    "Uninvolved breast tissue shows fibrocystic changes.",
    "Additional findings: usual ductal hyperplasia and apocrine metaplasia.",
    "Additional pathologic changes: fibroadenoma.",
    "Skin and nipple are unremarkable.",
    "Biopsy site changes are present.",
)
CLINICAL = (
    "Breast mass on imaging.",
    "Abnormal mammogram.",
    "Breast cancer on core biopsy.",
    "Palpable breast lump.",
)
GROSS = (
    "Received fresh and oriented by sutures. The margins are inked. Serial sections reveal a firm "
    "white mass; the remainder is yellow adipose and fibrous tissue. Representative sections are "
    "submitted.",
    "The specimen is received in formalin, inked and serially sectioned. A tan, ill-defined, "
    "gritty lesion is found. The nodes are submitted entirely.",
    "An ellipse of skin with underlying fibrofatty tissue. On sectioning there is a stellate, "
    "grey-white lesion. Sections are taken as listed.",
)
