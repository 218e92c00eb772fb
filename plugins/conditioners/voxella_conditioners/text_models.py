"""Text encoders from local transformers folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxella.machine import raise_if_machine
from voxella_conditioners.text_encoder import TokenEncoder
from voxella_conditioners.text_folder import ModelFolder, identity, open_folder
from voxella_conditioners.text_settings import TextSettings
from voxella_conditioners.text_stream import (
    StoredWeights,
    dtypes_of,
    is_streamed,
    stream_blocks,
)

__all__ = [
    "check_vocabulary",
    "load_any",
    "load_t5",
    "read_tokenizer",
    "read_whole",
    "unreadable",
]

# Tables of absolute positions, by the names transformers gives them.
_POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
# Parts that the last hidden state does not need.
_UNUSED_PARTS = ("pooler", "decoder.", "lm_head", "logit_scale")


def load_t5(path: Path, settings: TextSettings, *, tokens_only: bool = False) -> TokenEncoder:
    """Load the encoder of a T5 folder; the decoder's weights are not read.

    Raises:
        UserError: As :func:`load_any`; or the folder holds another kind of model.
    """
    from transformers import T5EncoderModel

    folder = open_folder(path, settings.name)
    kind = folder.config.get("model_type")
    if kind != "t5":
        raise settings.error(
            f"{path} holds a model of type {kind}",
            expected="model_type t5 in config.json",
            remedy="use the text encoder hf",
        )
    return _load(folder, settings, T5EncoderModel, tokens_only)


def load_any(path: Path, settings: TextSettings, *, tokens_only: bool = False) -> TokenEncoder:
    """Load the text encoder of any transformers folder.

    Args:
        path: The folder.
        settings: How to run it.
        tokens_only: Read no weights; the encoder counts tokens and encodes nothing.

    Raises:
        UserError: When the folder is incomplete or cannot be read, or ``max_tokens`` does not fit
            the model.
    """
    from transformers import AutoModel

    return _load(open_folder(path, settings.name), settings, AutoModel, tokens_only)


def _load(
    folder: ModelFolder,
    settings: TextSettings,
    family: Any,  # noqa: ANN401 - untyped library
    tokens_only: bool,
) -> TokenEncoder:
    from transformers.utils import logging

    # Its own bar would cut across the stage's, and is noise where there is no terminal.
    logging.disable_progress_bar()
    tokenizer = read_tokenizer(folder, settings)
    outline = _outline(folder, settings, family)
    _check_length(settings, tokenizer, _text_part(outline))
    check_vocabulary(folder, settings, tokenizer, _text_part(outline))
    if tokens_only:
        model = _text_part(outline)
    elif is_streamed(outline, _text_part(outline), settings):
        model = _streamed(folder, settings, outline)
    else:
        model = _text_part(read_whole(folder, settings, family.from_pretrained))
    return TokenEncoder(
        model,
        tokenizer,
        max_tokens=settings.max_tokens,
        padding=settings.padding,
        batch_size=settings.batch_size,
        device=settings.place(),
        identity=identity(folder, settings.identity(), weights=not tokens_only),
    )


def read_tokenizer(folder: ModelFolder, settings: TextSettings) -> Any:  # noqa: ANN401 - untyped library
    """Return the folder's tokenizer, which cuts at the end that is asked for."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder.path,
            local_files_only=True,
            # Left unsaid, transformers would ask on the terminal whether to run the folder's code.
            trust_remote_code=False,
            truncation_side=settings.truncation,
            padding_side="right",
        )
    except Exception as error:
        raise unreadable(folder, settings, "tokenizer", error) from error


def _outline(folder: ModelFolder, settings: TextSettings, family: Any) -> Any:  # noqa: ANN401 - untyped library
    """Return the model without its weights: what can be checked before gigabytes are read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            # An Auto class takes a configuration its own way, a model's class as it is called.
            if hasattr(family, "from_config"):
                return family.from_config(config, trust_remote_code=False).eval()
            return family(config).eval()
    except Exception as error:
        raise unreadable(folder, settings, "model", error) from error


def read_whole(
    folder: ModelFolder,
    settings: TextSettings,
    from_pretrained: Callable[..., Any],
) -> Any:  # noqa: ANN401 - untyped library
    """Return the model with its weights, on its device; none may be missing."""
    how = settings.eight_bits() if settings.quantize == "int8" else {}
    try:
        model, report = from_pretrained(
            folder.path,
            local_files_only=True,
            trust_remote_code=False,
            dtype=getattr(torch, settings.dtype),
            output_loading_info=True,
            **how,
        )
    except Exception as error:
        raise unreadable(folder, settings, "model", error) from error
    _check_complete(folder, settings, report["missing_keys"])
    return model if how else model.to(settings.place())


def _streamed(folder: ModelFolder, settings: TextSettings, outline: Any) -> nn.Module:  # noqa: ANN401 - untyped library
    try:
        stored = StoredWeights(folder.weights)
        missing = stream_blocks(outline, stored, settings.place(), dtypes_of(outline, settings))
    except Exception as error:
        raise unreadable(folder, settings, "model", error) from error
    _check_complete(folder, settings, missing)
    return _text_part(outline)


def _text_part(model: Any) -> nn.Module:  # noqa: ANN401 - untyped library
    """Return the encoder of an encoder-decoder, the text part of an image-text model."""
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    part: nn.Module = getattr(model, "text_model", model)
    return part


def unreadable(
    folder: ModelFolder, settings: TextSettings, what: str, error: Exception
) -> Exception:
    """Return what to say of a folder over which a library has raised: over a damaged one, anything.

    Raises:
        OSError: It is the machine that has refused.
    """
    raise_if_machine(error, folder.path)
    if "trust_remote_code" in str(error):
        return settings.error(
            f"the {what} in {folder.path} is defined by Python code of its own (auto_map in "
            "config.json or tokenizer_config.json), which is never run",
            expected="a model whose code is part of transformers, such as T5, BERT, RoBERTa, XLM-R",
            remedy="save the model with such a class, or use another",
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return settings.error(
        f"the {what} in {folder.path} cannot be loaded: {reason}",
        remedy="copy the folder anew; a truncated download looks like this",
    )


def _check_complete(folder: ModelFolder, settings: TextSettings, missing: Iterable[str]) -> None:
    # transformers would fill what is missing with random numbers.
    needed = sorted(key for key in missing if not any(part in key for part in _UNUSED_PARTS))
    if needed:
        raise settings.error(
            f"the weights in {folder.path} lack {len(needed)} tensors, such as {needed[0]}",
            expected="the weights that belong to the config.json beside them",
        )


def _check_length(settings: TextSettings, tokenizer: Any, encoder: nn.Module) -> None:  # noqa: ANN401 - untyped library
    least = int(tokenizer.num_special_tokens_to_add()) + 1
    most = _positions(encoder)
    tokens = settings.max_tokens
    if tokens < least or (most is not None and tokens > most):
        raise settings.error(
            f"max_tokens={tokens}",
            expected=f"{least} or more" if most is None else f"{least} to {most}, its positions",
            remedy="set text.max_tokens",
        )


def check_vocabulary(
    folder: ModelFolder,
    settings: TextSettings,
    tokenizer: Any,  # noqa: ANN401 - untyped library
    encoder: Any,  # noqa: ANN401 - untyped library
) -> None:
    """Refuse a tokenizer that has tokens which the model does not know."""
    rows = encoder.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise settings.error(
            f"{folder.path}: the tokenizer knows {len(tokenizer)} tokens and the model {rows}",
            expected="a tokenizer and a model that belong together",
        )


def _positions(encoder: nn.Module) -> int | None:
    """Return the longest input of a model with absolute positions; None where any length goes."""
    for name, module in encoder.named_modules():
        if name.endswith(_POSITION_TABLES) and isinstance(module, nn.Embedding):
            # RoBERTa keeps the rows up to its padding row for padding; BART shifts by an offset.
            padding = module.padding_idx
            unused = int(getattr(module, "offset", 0 if padding is None else padding + 1))
            return module.num_embeddings - unused
    return None
