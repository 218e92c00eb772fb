"""Entry points of the conditioners. Light: torch is imported inside the builders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from voxella.errors import UserError
from voxella.plugins.contracts import Conditioner
from voxella.plugins.specs import hookimpl

__all__ = [
    "ccella_builder",
    "class_token",
    "cross_attention",
    "ella",
    "none",
    "radclass",
    "voxella_factory",
]


def none() -> Conditioner:
    """Build the conditioner of the recipe ``base``: it reads nothing and says nothing."""
    from voxella_conditioners.labels import NoConditioning

    return NoConditioning()


def radclass(*, num_classes: int) -> Conditioner:
    """Build the conditioner of ``radbase``: the radiologist's label is the class vector."""
    from voxella_conditioners.labels import LabelConditioning

    _check_sizes("radclass", num_classes=num_classes)
    return LabelConditioning(num_classes)


def ella(
    *,
    text_dim: int,
    num_classes: int,
    width: int = 768,
    queries: int = 256,
    blocks: int = 6,
    heads: int = 8,
    class_vector: bool = False,
) -> Conditioner:
    """Build ELLA: the report becomes context tokens that depend on the timestep.

    Args:
        text_dim: Width of the text features.
        num_classes: Number of classes; used with ``class_vector``.
        width: Width of the context tokens.
        queries: Number of context tokens.
        blocks: Number of blocks.
        heads: Attention heads; must divide ``width``.
        class_vector: Pass the radiologist's label on as vector ``class`` (recipe ``decoupled``).

    Raises:
        UserError: When a size is impossible, or the recipe has no text.
    """
    from voxella_conditioners.connector import Connector
    from voxella_conditioners.ella import Ella

    _check_sizes("ella", num_classes=num_classes)
    _check_connector("ella", text_dim, width, queries, blocks, heads)
    connector = Connector(text_dim, width=width, queries=queries, blocks=blocks, heads=heads)
    return Ella(connector, num_classes=num_classes, class_vector=class_vector)


def ccella_builder(
    name: str, placement: Literal["each", "shared", "first", "last"]
) -> Callable[..., Conditioner]:
    """Return the builder of CCELLA with its class heads at ``placement``."""

    def build(
        *,
        text_dim: int,
        num_classes: int,
        width: int = 768,
        queries: int = 256,
        blocks: int = 6,
        heads: int = 8,
        head_hidden: int = 256,
    ) -> Conditioner:
        """Build CCELLA: ELLA, and class heads that read the context.

        Args:
            text_dim: Width of the text features.
            num_classes: Number of classes.
            width: Width of the context tokens.
            queries: Number of context tokens.
            blocks: Number of blocks.
            heads: Attention heads; must divide ``width``.
            head_hidden: Hidden width of a class head.

        Raises:
            UserError: When a size is impossible, or the recipe has no text.
        """
        from voxella_conditioners.ccella import Ccella
        from voxella_conditioners.connector import Connector

        _check_sizes(name, num_classes=num_classes, head_hidden=head_hidden)
        _check_connector(name, text_dim, width, queries, blocks, heads)
        connector = Connector(text_dim, width=width, queries=queries, blocks=blocks, heads=heads)
        return Ccella(
            connector, num_classes=num_classes, placement=placement, head_hidden=head_hidden
        )

    return build


def cross_attention(*, text_dim: int, masked: bool = True) -> Conditioner:
    """Build what hands the text features on as they are, token by token (latent diffusion).

    Args:
        text_dim: Width of the text features, and so of the context.
        masked: Hide padding from the denoiser. False is for ``text.padding: max`` alone (paper
            mode), where every text has the same length and nothing is hidden: another text is
            refused, as a case would depend on the others of its batch.

    Raises:
        UserError: When the recipe has no text.
    """
    from voxella_conditioners.raw_tokens import RawTokens

    if text_dim is None:
        raise _no_text("cross_attention")
    _check_sizes("cross_attention", text_dim=text_dim)
    return RawTokens(text_dim, masked=masked)


def class_token(*, num_classes: int, width: int = 512, weights: Path | None = None) -> Conditioner:
    """Build a context of one token: a learned vector per class, and one for "not known".

    Args:
        num_classes: Number of classes.
        width: Width of the token.
        weights: Local checkpoint of latent diffusion that training starts from, such as PathLDM's
            class model's; None: random.

    Raises:
        UserError: When a size is impossible, or the file holds another table.
    """
    from voxella_conditioners.class_token import ClassToken

    _check_sizes("class_token", num_classes=num_classes, width=width)
    return ClassToken(num_classes, width, weights)


_BUILDERS: dict[str, Callable[..., Conditioner]] = {
    "none": none,
    "radclass": radclass,
    "ella": ella,
    "ccella": ccella_builder("ccella", "each"),
    "shared": ccella_builder("shared", "shared"),
    "first": ccella_builder("first", "first"),
    "last": ccella_builder("last", "last"),
    "cross_attention": cross_attention,
    "class_token": class_token,
}


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return _BUILDERS.get(name)


def _check_connector(
    name: str, text_dim: int | None, width: int, queries: int, blocks: int, heads: int
) -> None:
    if text_dim is None:
        raise _no_text(name)
    _check_sizes(name, text_dim=text_dim, width=width, queries=queries, blocks=blocks, heads=heads)
    if width % heads:
        raise UserError(
            f"conditioner {name}: {heads} heads do not divide width {width}",
            expected="heads: " + ", ".join(str(n) for n in range(1, width + 1) if width % n == 0),
        )


def _check_sizes(name: str, **sizes: int) -> None:
    wrong = [f"{key}={value}" for key, value in sizes.items() if value < 1]
    if wrong:
        raise UserError(f"conditioner {name}: {', '.join(wrong)}", expected="1 or more")


def _no_text(name: str) -> UserError:
    return UserError(
        f"conditioner {name} reads reports, and the recipe has no text block",
        remedy="add text: {encoder: {name: t5, path: ...}, width: 4096}",
    )
