"""Norm-adaptive margins of the contrastive term."""

from torch import Tensor


def adaptive_margin(
    anchor_radius: Tensor, code_radius: Tensor, pair_margin: Tensor, base_margin: float
) -> Tensor:
    """Margins `[batch, code]`, bounded by 0 and 2 `base_margin`.

    base_margin (1 + pair_margin) (g(anchor) + g(code)) / 2 with g(r) = r / (1 + r): pairs deep in
    the space, where there is room, must stand further apart than pairs near the origin, and more so
    for an anchor whose positive is a close relative. In a decoupled loss a margin common to all
    codes of an anchor has no gradient; the part that differs by code moves weight to the deep ones.
    A margin is a target, not a way to lower the loss: no gradient flows into the radii.

    Args:
        anchor_radius: distances from the origin, `[batch]`.
        code_radius: the same for the codes of the step, `[code]`.
        pair_margin: 1 / tree distance of anchor and positive, `[batch]` in (0, 1].
        base_margin: `loss.base_margin`, a distance.
    """
    anchor, code = anchor_radius.detach(), code_radius.detach()
    growth = (anchor / (1 + anchor))[:, None] + (code / (1 + code))[None, :]  # [batch, code]
    return base_margin * (1 + pair_margin.to(growth.dtype))[:, None] * growth / 2
