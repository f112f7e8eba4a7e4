"""Convert a SentencePiece file (`tokenizer.model`) to a tokenizer of the `tokenizers` library.

transformers 5 ignores how the file treats spaces: it drops the leading space of Phi-3 and Mistral,
and one of two leading spaces of Llama. So the file's own settings are converted here, and the
result is compared with SentencePiece itself.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from slmflow.checkpoints.sample_texts import TEXTS
from slmflow.errors import UserError

# Where a space is put before a text: at each part between special tokens, at the first, or nowhere.
Prefix = Literal["always", "first", "never"]

_SPACE = "\u2581"
_UNIGRAM, _BPE = 1, 2
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

_TEXTS = (*TEXTS, "\u2581begins and ends with SentencePiece's space\u2581", "a\0b\x1bc")
_ADVICE = "save the tokenizer with transformers, and add its tokenizer.json to the model"


def convert(file: Path, settings: Mapping[str, Any], model: str) -> Tokenizer:
    """Return the tokenizer of a SentencePiece file; `model` is the name in messages.

    settings: the content of tokenizer_config.json. Raises UserError for a file that is damaged or
    of another format, and where the result tokenizes a sample text otherwise than SentencePiece.
    """
    proto = _parse(file, model)
    proto.normalizer_spec.add_dummy_prefix = _adds_prefix(proto, settings)
    is_legacy = settings.get("legacy") is not False
    prefix: Prefix = "never"
    if proto.normalizer_spec.add_dummy_prefix:
        prefix = "always" if is_legacy else "first"
    tokenizer = Tokenizer(_vocabulary(proto))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec, prefix)
    if prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prefix, split=False)
    tokenizer.decoder = _decoder(prefix)
    tokenizer.add_special_tokens(list(_added_tokens(proto, _UNKNOWN, _CONTROL)))
    tokenizer.add_tokens(list(_added_tokens(proto, _USER_DEFINED)))
    if (text := _find_difference(tokenizer, proto, prefix)) is not None:
        raise UserError(
            f"{file.name} of {model} cannot be converted: SentencePiece tokenizes {text!r} "
            f"otherwise than the converted tokenizer. To avoid the conversion, {_ADVICE}"
        )
    if (post_processor := _post_processor(proto, settings)) is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


def special_tokens(file: Path, model: str) -> dict[str, str]:
    """Return the special tokens of a SentencePiece file by transformers' names."""
    proto = _parse(file, model)
    ids = {name: getattr(proto.trainer_spec, f"{name}_id") for name in ("bos", "eos", "unk", "pad")}
    return {f"{name}_token": proto.pieces[i].piece for name, i in ids.items() if i >= 0}


def _parse(file: Path, model: str) -> Any:
    """Return the protobuf message of a file whose vocabulary is of a supported kind."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(file.read_bytes())
        is_valid = proto.IsInitialized() and 0 <= proto.trainer_spec.unk_id < len(proto.pieces)
    except DecodeError:
        is_valid = False
    if not is_valid:
        raise UserError(
            f"{file.name} of {model} is not a SentencePiece model, and there is no tokenizer.json: "
            f"{_ADVICE}"
        )
    if proto.trainer_spec.model_type not in (_UNIGRAM, _BPE):
        raise UserError(
            f"{file.name} of {model} is a SentencePiece model of words or characters, which "
            "slmflow does not convert: choose a model with a BPE or unigram tokenizer"
        )
    return proto


def _adds_prefix(proto: Any, settings: Mapping[str, Any]) -> bool:
    setting = settings.get("add_prefix_space")
    return bool(proto.normalizer_spec.add_dummy_prefix if setting is None else setting)


def _vocabulary(proto: Any) -> models.Model:
    from transformers.convert_slow_tokenizer import generate_merges

    unknown, has_bytes = proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback
    scores = [(piece.piece, piece.score) for piece in proto.pieces]
    if proto.trainer_spec.model_type == _UNIGRAM:
        return models.Unigram(scores, unk_id=unknown, byte_fallback=has_bytes)
    vocabulary = {piece: number for number, (piece, _) in enumerate(scores)}
    special = {piece.piece for piece in proto.pieces if piece.type in (_UNKNOWN, _CONTROL)}
    merges = generate_merges(vocabulary, scores, special)
    return models.BPE(
        vocabulary, merges, unk_token=scores[unknown][0], fuse_unk=True, byte_fallback=has_bytes
    )


def _normalizer(spec: Any, prefix: Prefix) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        if "nfkc" in spec.name:  # `Precompiled` drops the second of two combining marks
            steps.append(normalizers.NFC())
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if prefix == "always":
        steps.append(normalizers.Prepend(_SPACE))
    if prefix != "first":
        steps.append(normalizers.Replace(" ", _SPACE))
    return normalizers.Sequence(steps)


def _decoder(prefix: Prefix) -> decoders.Decoder:
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix != "never":
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def _added_tokens(proto: Any, *types: int) -> Iterator[AddedToken]:
    for piece in proto.pieces:
        if piece.type in types:
            yield AddedToken(piece.piece, normalized=False, special=piece.type != _USER_DEFINED)


def _find_difference(tokenizer: Tokenizer, proto: Any, prefix: Prefix) -> str | None:
    """Return the first sample text that SentencePiece tokenizes otherwise.

    With prefix "first", the `tokenizers` library, and so transformers, puts no space before a text
    that begins with one.
    """
    from sentencepiece import SentencePieceProcessor

    original = SentencePieceProcessor(model_proto=proto.SerializeToString())
    for text in _TEXTS:
        is_known = prefix == "first" and text.startswith((" ", _SPACE))
        if not is_known and tokenizer.encode(text).ids != original.encode(text):
            return text
    return None


def _post_processor(proto: Any, settings: Mapping[str, Any]) -> TemplateProcessing | None:
    """Return what adds the BOS token, as transformers 4 did unless `add_bos_token` is false."""
    number = proto.trainer_spec.bos_id
    if number < 0 or settings.get("add_bos_token") is False:
        return None
    token = proto.pieces[number].piece
    return TemplateProcessing(
        single=f"{token}:0 $A:0",
        pair=f"{token}:0 $A:0 {token}:1 $B:1",
        special_tokens=[(token, number)],
    )
