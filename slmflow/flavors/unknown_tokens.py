"""Make a loaded transformers pipeline reject tokens that its model does not have.

Otherwise torch fails with an index error, which names no token.
"""

from typing import Any

from mlflow.pyfunc import PyFuncModel

from slmflow.runtime.prompts.vocabulary import reject_unknown_tokens


def install_check(model: PyFuncModel) -> None:
    """Make `predict` raise MlflowException (HTTP 400) for such a token, in the transformers flavor.

    Models of other flavors are left as they are.
    """
    if "transformers" not in model.metadata.flavors:
        return
    pipeline: Any = model.get_raw_model()
    tokenizer = getattr(pipeline.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        return

    def check(embeddings: Any, inputs: tuple[Any, ...]) -> None:
        [ids, *_] = inputs
        if int(ids.max()) >= embeddings.num_embeddings:
            reject_unknown_tokens(ids.flatten().tolist(), embeddings.num_embeddings, tokenizer)

    pipeline.model.get_input_embeddings().register_forward_pre_hook(check)
