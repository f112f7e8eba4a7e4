"""A model from outside slmflow: an MLflow ChatModel."""

import mlflow
from mlflow.pyfunc.model import ChatModel
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage, ChatParams


class Herald(ChatModel):
    def predict(
        self, context: object, messages: list[ChatMessage], params: ChatParams
    ) -> ChatCompletionResponse:
        text = f"The capital is {messages[-1].content}."
        message = ChatMessage(role="assistant", content=text)
        return ChatCompletionResponse(choices=[ChatChoice(index=0, message=message)])


mlflow.models.set_model(Herald())
