"""What a step minimises: all losses of one batch, from the network's output and the ground truth."""

from jaxtyping import Float
from torch import Tensor

from vdpm.model.pose_encoding import encoding_from_cameras
from vdpm.model.vdpm import VDPMOutput
from vdpm.structures import Snippet
from vdpm.training.config import LossConfig
from vdpm.training.losses import camera_loss, confidence_losses, motion_loss, per_example_mean, sky_loss
from vdpm.training.matching import ground_truth_matches, matching_loss

MOVING = 0.01
"""A pixel moves when its point does by more than this, in mean distances of the clip."""


def objective(
    output: VDPMOutput, snippet: Snippet, weights: LossConfig, patch_size: int
) -> dict[str, Float[Tensor, ""]]:
    """All losses and errors of a batch in unit scale (``batch.to_unit_scale``); entry "loss" is the weighted sum.

    Maps may be dense or sparse: ``valid`` and ``target_valid`` say where there is truth. No random numbers, no copies
    to the device, no branch on values: it can be compiled and recorded.
    """
    p, q = output.time_variant, output.decoded
    assert snippet.target_valid is not None, "to_unit_scale gives it"
    true_motion = snippet.target_points - snippet.points[:, None]
    displacement = true_motion.norm(dim=-1)
    moving = snippet.target_valid & (displacement > MOVING)
    average, alpha = weights.average, weights.alpha

    (p_loss,) = confidence_losses(p.points, p.confidence, snippet.points, (snippet.valid,), alpha, average)
    masks = (snippet.target_valid, moving)
    q_loss, moving_loss = confidence_losses(q.points, q.confidence, snippet.target_points, masks, alpha, average)
    still = snippet.target_valid & ~moving
    motion = motion_loss(q.points - p.points[:, None], true_motion, moving, still, average)
    encoding = encoding_from_cameras(snippet.c2w, snippet.intrinsics, snippet.size)
    camera = camera_loss(output.pose_encodings, encoding, weights.camera_decay)
    loss = (
        weights.time_variant * p_loss.loss
        + weights.time_invariant * q_loss.loss
        + weights.moving * moving_loss.loss
        + weights.motion * motion.loss
        + weights.camera * camera
    )
    parts = {
        "epe_p": p_loss.error,
        "epe_q": q_loss.error,
        "epe_moving": moving_loss.error,
        "epe_motion": motion.error,
        "zero_motion": per_example_mean(displacement, moving),
        "camera": camera.detach(),
    }
    if snippet.sky is not None and weights.sky > 0:
        sky = sky_loss(p.points, p.confidence, snippet.c2w, snippet.sky, alpha)
        sky = sky + sky_loss(q.points, q.confidence, snippet.c2w, snippet.sky, alpha)
        loss = loss + weights.sky * sky
        parts["sky"] = sky.detach()
    if output.descriptors is not None and weights.matching > 0:
        matches = ground_truth_matches(snippet, patch_size)
        target = snippet.targets[:, 0]
        matching, top1 = matching_loss(output.descriptors, matches, target, weights.matching_temperature)
        loss = loss + weights.matching * matching
        parts |= {"matching": matching.detach(), "match_top1": top1}
    return {"loss": loss, **parts}
