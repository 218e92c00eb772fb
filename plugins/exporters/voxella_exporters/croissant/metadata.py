"""Croissant 1.0 as JSON-LD, with the fields of its extension for responsible AI (RAI 1.0).

Sources: https://docs.mlcommons.org/croissant/docs/croissant-spec.html (version 1.0) and
https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxella_exporters.croissant.table import Column, File

__all__ = ["CONFORMS_TO", "About", "metadata"]

CONFORMS_TO = (
    "http://mlcommons.org/croissant/1.0",
    "http://mlcommons.org/croissant/RAI/1.0",
)
# The standard context of version 1.0, word for word.
_CONTEXT: dict[str, Any] = json.loads("""
{
  "@language": "en",
  "@vocab": "https://schema.org/",
  "citeAs": "cr:citeAs",
  "column": "cr:column",
  "conformsTo": "dct:conformsTo",
  "cr": "http://mlcommons.org/croissant/",
  "rai": "http://mlcommons.org/croissant/RAI/",
  "data": {"@id": "cr:data", "@type": "@json"},
  "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
  "dct": "http://purl.org/dc/terms/",
  "equivalentProperty": "cr:equivalentProperty",
  "examples": {"@id": "cr:examples", "@type": "@json"},
  "extract": "cr:extract",
  "field": "cr:field",
  "fileProperty": "cr:fileProperty",
  "fileObject": "cr:fileObject",
  "fileSet": "cr:fileSet",
  "format": "cr:format",
  "includes": "cr:includes",
  "isLiveDataset": "cr:isLiveDataset",
  "jsonPath": "cr:jsonPath",
  "key": "cr:key",
  "md5": "cr:md5",
  "parentField": "cr:parentField",
  "path": "cr:path",
  "recordSet": "cr:recordSet",
  "references": "cr:references",
  "regex": "cr:regex",
  "repeated": "cr:repeated",
  "replace": "cr:replace",
  "samplingRate": "cr:samplingRate",
  "sc": "https://schema.org/",
  "separator": "cr:separator",
  "source": "cr:source",
  "subField": "cr:subField",
  "transform": "cr:transform"
}
""")
_FORMATS = {".csv": "text/csv", ".gz": "application/gzip", ".png": "image/png"}


@dataclass(frozen=True)
class About:
    """What a user says of the data set; what is None or empty is left out.

    Attributes:
        name: Its name.
        description: A few sentences.
        licence: A URL or an SPDX name.
        url: Where it is published.
        version: Such as ``1.0.0``.
        date: Of its publication, ``YYYY-MM-DD``.
        creator: Who made it.
        citation: How it is cited.
    """

    name: str
    description: str | None = None
    licence: str | None = None
    url: str | None = None
    version: str | None = None
    date: str | None = None
    creator: str | None = None
    citation: str | None = None


def metadata(
    about: About,
    description: str,
    rai: Mapping[str, Any],
    cases: File,
    images: Sequence[File],
    columns: Sequence[Column],
) -> dict[str, Any]:
    """Return the description of a data set.

    Args:
        about: What the user says.
        description: What is said where the user says nothing.
        rai: Fields of the extension, without their prefix.
        cases: The table.
        images: The files that it names.
        columns: The table's.
    """
    told: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": about.name,
        "description": about.description or description,
        "license": about.licence,
        "url": about.url,
        "version": about.version,
        "datePublished": about.date,
        "creator": None
        if about.creator is None
        else {"@type": "sc:Organization", "name": about.creator},
        "citeAs": about.citation,
        **{f"rai:{name}": value for name, value in rai.items()},
        "distribution": [_file(file) for file in (cases, *images)],
        "recordSet": [_record_set(cases, columns)],
    }
    return {name: value for name, value in told.items() if value not in (None, "", [])}


def _file(file: File) -> dict[str, Any]:
    ending = file.path[file.path.rindex(".") :]
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.size} B",
        "encodingFormat": _FORMATS[ending],
        "sha256": file.sha256,
    }


def _record_set(cases: File, columns: Sequence[Column]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "cases",
        "name": "cases",
        "description": "One row for each case.",
        "key": {"@id": "cases/id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"cases/{column.name}",
                "name": f"cases/{column.name}",
                "description": column.about,
                "dataType": column.type,
                "source": {
                    "fileObject": {"@id": cases.path},
                    "extract": {"column": column.name},
                },
            }
            for column in columns
        ],
    }
