// The AI SDK with @ai-sdk/openai, whose default is the responses API.

import { createOpenAI } from "@ai-sdk/openai";
import { checkChat, checkStream, checkTools, register } from "./ai_sdk.mjs";
import { cell, main, server } from "./cells.mjs";

const openai = createOpenAI({ baseURL: server.api, apiKey: server.key });

register({
  chat: openai.chat(server.model),
  completion: openai.completion(server.model),
  embedding: openai.embedding(server.model),
});

cell("responses", async () => {
  await checkChat(openai(server.model));
  await checkStream(openai(server.model));
});

cell("responses, tools", () => checkTools(openai(server.model), "required"), { needs: ["tools"] });

await main();
