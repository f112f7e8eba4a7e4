"""One line on a converted model: its size, how much of the model is left, and is that enough?"""

from slmflow.config import target_advice
from slmflow.config.schema.target import Exporter, Target
from slmflow.conversion.proof.fidelity import Fidelity, Loss
from slmflow.conversion.record import ConversionRecord

_NO_GAIN = (
    "Calibration made the model worse than plain rounding: give text like the model's own use, in "
    "its languages and its prompt format (calibration.data), or more of it (calibration.tokens)."
)


def describe(record: ConversionRecord, target: Target, exporter: Exporter) -> str:
    """Return the line; what to try in place of the target unless the loss is small."""
    fidelity, loss = record.fidelity, record.fidelity.loss
    figures = (
        f"{target.name}: {record.onnx_size_mb:.1f} MB; on {fidelity.tokens:,} held-out tokens "
        f"KL {fidelity.mean_kl:.2g} ({fidelity.mean_kl_low:.2g} to {fidelity.mean_kl_high:.2g}), "
        f"{_shares(fidelity)}"
    )
    if rtn := record.rtn_fidelity:
        figures += f"; plain rounding: KL {rtn.mean_kl:.2g}, {_shares(rtn)}"
    sentences = [f"{figures}.", f"The loss is {loss.value}."]
    if rtn and rtn.mean_kl < fidelity.mean_kl:
        sentences.append(_NO_GAIN)
    if loss is not Loss.small and (
        suggestions := target_advice.suggest(target, exporter, record.onnx_size_mb)
    ):
        sentences.append(target_advice.describe(suggestions))
    return " ".join(sentences)


def _shares(fidelity: Fidelity) -> str:
    return f"top-1 {fidelity.top1_agreement:.1%}, perplexity x{fidelity.perplexity_ratio:.3f}"
