"""The GenAI chat model where it is served. This package ships inside the logged model.

It stands alone: it imports the standard library, numpy, pandas, mlflow, tokenizers, jinja2, joblib
and onnxruntime_genai, but no torch, no transformers and nothing else of slmflow.

| module | what it does |
|---|---|
| `pyfunc` | the class that MLflow loads: `predict`, `predict_stream`, `score`, `open_session` |
| `protocol`, `session` | versioned messages between a server and the model |
| `request_group` | requests that are cancelled together, such as the rows of one `predict` |
| `chat_model` | validate a request, tokenize its prompt, generate its completion |
| `prompts/` | messages -> chat template (`template`, in `sandbox`) -> token ids (`conversation`) |
| `scheduling/` | which requests are decoded together (`batch_planning`, by `cost_model`) and when |
| `generation/` | `options` of a request; `genai` decodes, `sampling` picks, `detokenizer` writes |
| `generation/guidance` | JSON of a schema: bounded by `json_schema`, closed by `json_ending` |
| `generation/reasoning` | what a thinking model writes before its answer |
| `completions` | shape responses as OpenAI does |
| `scoring` | log-probability of an answer |
| `tracing` | MLflow traces of completions |
"""
