"""A model that slmflow did not make: MLflow's own ChatModel, with answers of its own."""

import mlflow
from mlflow.pyfunc.model import ChatModel
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage, ChatParams


class Herald(ChatModel):
    def predict(
        self, context: object, messages: list[ChatMessage], params: ChatParams
    ) -> ChatCompletionResponse:
        said = f"The capital is {messages[-1].content}."
        message = ChatMessage(role="assistant", content=said)
        return ChatCompletionResponse(choices=[ChatChoice(index=0, message=message)])


mlflow.models.set_model(Herald())
