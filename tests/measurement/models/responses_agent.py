"""A ResponsesAgent that repeats the last message in capitals."""

import mlflow
from mlflow.pyfunc.model import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse


class Herald(ResponsesAgent):
    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        text = request.input[-1].model_dump()["content"].upper()
        words = text.split()[: request.max_output_tokens]
        item = self.create_text_output_item(" ".join(words), id="1")
        usage = {
            "input_tokens": len(text.split()),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(words),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": len(text.split()) + len(words),
        }
        return ResponsesAgentResponse(output=[item], usage=usage)


mlflow.models.set_model(Herald())
