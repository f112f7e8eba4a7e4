"""A ChatAgent that repeats the last message in capitals."""

import mlflow
from mlflow.pyfunc.model import ChatAgent
from mlflow.types.agent import ChatAgentMessage, ChatAgentResponse, ChatContext


class Herald(ChatAgent):
    def predict(
        self,
        messages: list[ChatAgentMessage],
        context: ChatContext | None = None,
        custom_inputs: dict[str, object] | None = None,
    ) -> ChatAgentResponse:
        text = str(messages[-1].content).upper()
        return ChatAgentResponse(
            messages=[ChatAgentMessage(id="1", role="assistant", content=text)]
        )


mlflow.models.set_model(Herald())
