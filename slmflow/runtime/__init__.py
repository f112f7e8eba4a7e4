"""The GenAI chat model as it runs where it is served: this package ships inside the model.

It stands alone: the standard library, numpy, pandas, mlflow, tokenizers, jinja2, joblib and
onnxruntime_genai; no torch, no transformers, nothing else of slmflow.

`conversation` turns messages into token ids, `options` a request into how it is answered,
`scheduler` shares the model among all who ask, after what `grouping` makes of the `costs`, `genai`
runs it, `sampling` chooses the tokens, `text` turns them into an answer; `chat_model` is all that
together, `pyfunc` what MLflow calls. `scoring` tells how likely a given answer is.
"""
