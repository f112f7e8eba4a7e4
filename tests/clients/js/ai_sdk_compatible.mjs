// The AI SDK with @ai-sdk/openai-compatible.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";
import { register } from "./ai_sdk.mjs";
import { QUESTION, cell, checkAnswer, main, server } from "./cells.mjs";

const local = createOpenAICompatible({
  name: "local",
  baseURL: server.api,
  apiKey: server.key,
  supportsStructuredOutputs: true,
});

register({
  chat: local.chatModel(server.model),
  completion: local.completionModel(server.model),
  embedding: local.embeddingModel(server.model),
});

cell(
  "thinking",
  async () => {
    const ask = (thinking, rest) =>
      generateText({
        model: local.chatModel(server.model),
        prompt: QUESTION,
        providerOptions: { local: { chat_template_kwargs: { enable_thinking: thinking } } },
        maxRetries: 0,
        ...rest,
      });
    assert.ok((await ask(true, { maxOutputTokens: 48 })).reasoningText);
    const plain = await ask(false, {});
    assert.ok(!plain.reasoningText);
    checkAnswer(plain.text);
  },
  { needs: ["enable_thinking"] },
);

await main();
