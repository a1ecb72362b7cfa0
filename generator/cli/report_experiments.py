"""What `verify` and `try` print, as text. Nothing here prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..experiments.keep import Kept
    from ..experiments.variant import Variant
    from ..experiments.verify import Certificate


def certificate_text(found: "Certificate") -> str:
    """Describe the result of a replay."""
    steps = f"steps {found.span.start + 1} to {found.span.until}"
    compared = f"{found.metrics} line{'s' * (found.metrics != 1)} of metrics and {found.tensors} tensors"
    if found.is_verified:
        lines = [f"verified: this code reproduces {steps} ({compared}, byte for byte)"]
        if not found.span.has_checkpoint:
            lines.append("the run has no checkpoint at the last step, so only metrics were compared")
        lines += [f"differs from the run, without effect, in {cause}" for cause in found.causes]
    else:
        lines = [f"differs at step {found.step}: {found.difference}"]
        lines += [f"differs from the run in {cause}" for cause in found.causes]
        if not found.causes:
            lines.append(
                "code, data, versions and threads are the same as in the run, so it is not reproducible. Does it use a random"
                " generator of its own, or a GPU without `deterministic`?"
                if found.code.is_known
                else "the run was made by an older paccel, which recorded neither code nor data, so the cause is unknown"
            )
    return "\n".join([*lines, f"code: {found.code.origin}"])


def variants_text(variants: "Sequence[Variant]") -> str:
    """Return one line per variant: its name and verdict."""
    if not variants:
        return 'There are no variants; start one with: paccel try "your idea"'
    width = max(len(variant.name) for variant in variants)
    return "\n".join(
        f"{variant.name:<{width}}  "
        + (variant.verdict["sentence"] if variant.verdict else f"not run yet; edit {variant.folder}")
        for variant in variants
    )


def kept_text(kept: "Kept") -> str:
    """List the files that were merged, and the conflicts to resolve."""
    if not kept.changed:
        return "The project has these changes already"
    lines = [f"merged    {path}" for path in kept.changed if path not in kept.conflicts]
    lines += [f"conflict  {path}: {reason}" for path, reason in kept.conflicts.items()]
    if kept.conflicts:
        lines.append(
            "Resolve the conflicts in the project, then run the same command again. Until then, the variant is kept"
        )
    return "\n".join(lines)
