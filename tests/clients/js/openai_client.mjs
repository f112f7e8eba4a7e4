// OpenAI's own client for JavaScript.

import assert from "node:assert/strict";
import OpenAI from "openai";
import {
  CAPITAL_SCHEMA,
  PROMPT,
  QUESTION,
  TOOL_QUESTION,
  WEATHER_SCHEMA,
  cell,
  checkAnswer,
  checkCapital,
  checkWeather,
  main,
  server,
} from "./cells.mjs";

const client = new OpenAI({ baseURL: server.api, apiKey: server.key, maxRetries: 0 });
const { model } = server;
const messages = [{ role: "user", content: QUESTION }];
const toolMessages = [{ role: "user", content: TOOL_QUESTION }];
const definition = { name: "get_weather", parameters: WEATHER_SCHEMA, strict: true };
const tools = [{ type: "function", function: definition }];

cell("chat", async () => {
  const response = await client.chat.completions.create({ model, messages });
  checkAnswer(response.choices[0].message.content);
  assert.ok(response.usage.completion_tokens > 0);
});

cell("stream", async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  const pieces = [];
  for await (const chunk of stream) pieces.push(chunk.choices[0]?.delta?.content ?? "");
  assert.ok(pieces.length > 2);
  checkAnswer(pieces.join(""));
});

cell("completions", async () => {
  const prompt = [PROMPT, "1, 2, 3,"];
  const { choices } = await client.completions.create({ model, prompt, max_tokens: 8 });
  assert.deepEqual(choices.map((choice) => choice.index), [0, 1]);
  assert.ok(choices.every((choice) => choice.text));
});

cell("JSON schema", async () => {
  const response = await client.chat.completions.create({
    model,
    messages,
    response_format: {
      type: "json_schema",
      json_schema: { name: "capital", schema: CAPITAL_SCHEMA, strict: true },
    },
  });
  checkCapital(response.choices[0].message.content);
});

cell(
  "tools, auto",
  async () => {
    const { choices } = await client.chat.completions.create({
      model,
      messages: toolMessages,
      tools,
    });
    assert.ok(choices[0].message.tool_calls ?? choices[0].message.content);
  },
  { needs: ["tools"] },
);

// The call, whole and streamed, and the answer to its result.
cell(
  "tools, required",
  async () => {
    const request = { model, messages: toolMessages, tools, tool_choice: "required" };
    const [choice] = (await client.chat.completions.create(request)).choices;
    assert.equal(choice.finish_reason, "tool_calls");
    for (const call of choice.message.tool_calls) checkWeather(call.function.arguments);

    const streamed = await client.chat.completions.stream(request).finalChatCompletion();
    checkWeather(streamed.choices[0].message.tool_calls[0].function.arguments);

    const results = choice.message.tool_calls.map((call) => ({
      role: "tool",
      tool_call_id: call.id,
      content: "21 degrees",
    }));
    const history = [...toolMessages, choice.message, ...results];
    const answer = await client.chat.completions.create({ model, messages: history });
    assert.ok(answer.choices[0].message.content);
  },
  { needs: ["tools"] },
);

cell("logprobs", async () => {
  const request = { model, messages, logprobs: true, top_logprobs: 2 };
  const [choice] = (await client.chat.completions.create(request)).choices;
  assert.ok(choice.logprobs.content.every((token) => token.top_logprobs.length === 2));
});

cell("n", async () => {
  const request = { model, messages, n: 3, temperature: 1, max_tokens: 16 };
  const { choices } = await client.chat.completions.create(request);
  assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
});

cell("responses", async () => {
  checkAnswer((await client.responses.create({ model, input: QUESTION })).output_text);
  const stream = client.responses.stream({ model, input: QUESTION });
  checkAnswer((await stream.finalResponse()).output_text);
});

cell(
  "responses, tools",
  async () => {
    const response = await client.responses.create({
      model,
      input: TOOL_QUESTION,
      tools: [{ type: "function", ...definition }],
      tool_choice: "required",
    });
    const call = response.output.find((item) => item.type === "function_call");
    checkWeather(call.arguments);
  },
  { needs: ["tools"] },
);

cell("embeddings", () => client.embeddings.create({ model, input: QUESTION }), {
  refused: "/v1/embeddings",
});

cell(
  "thinking",
  async () => {
    const ask = (thinking, rest) =>
      client.chat.completions.create({
        model,
        messages,
        chat_template_kwargs: { enable_thinking: thinking },
        ...rest,
      });
    assert.ok((await ask(true, { max_tokens: 48 })).choices[0].message.reasoning_content);
    checkAnswer((await ask(false, {})).choices[0].message.content);
  },
  { needs: ["enable_thinking"] },
);

await main();
