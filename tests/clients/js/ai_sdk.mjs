// What the cells of the AI SDK's two providers share.

import assert from "node:assert/strict";
import { Output, embed, generateText, stepCountIs, jsonSchema, streamText, tool } from "ai";
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
} from "./cells.mjs";

const maxRetries = 0;

export async function checkChat(model) {
  const { text, usage } = await generateText({ model, prompt: QUESTION, maxRetries });
  checkAnswer(text);
  assert.ok(usage.outputTokens > 0);
}

export async function checkStream(model) {
  const errors = [];
  const onError = ({ error }) => errors.push(error);
  const { textStream } = streamText({ model, prompt: QUESTION, maxRetries, onError });
  const pieces = [];
  for await (const piece of textStream) pieces.push(piece);
  if (errors.length) throw errors[0];
  assert.ok(pieces.length > 1);
  checkAnswer(pieces.join(""));
}

/** The call, and the answer to its result. */
export async function checkTools(model, toolChoice) {
  const calls = [];
  const weather = tool({
    description: "Return the weather of a city.",
    inputSchema: jsonSchema(WEATHER_SCHEMA),
    execute: async (args) => {
      calls.push(args);
      return "21 degrees";
    },
  });
  const { text } = await generateText({
    model,
    prompt: TOOL_QUESTION,
    tools: { get_weather: weather },
    toolChoice,
    prepareStep: ({ stepNumber }) => (stepNumber ? { toolChoice: "none" } : undefined),
    stopWhen: stepCountIs(2),
    maxRetries,
  });
  calls.forEach(checkWeather);
  assert.ok(calls.length || text);
  if (toolChoice === "required") assert.ok(calls.length);
}

/** Register the cells; chat, completion, embedding: models of the provider. */
export function register({ chat, completion, embedding, structured = chat }) {
  cell("chat", () => checkChat(chat));
  cell("stream", () => checkStream(chat));
  cell("completions", async () => {
    const prompt = PROMPT;
    const { text } = await generateText({ model: completion, prompt, maxOutputTokens: 8, maxRetries });
    assert.ok(text);
  });
  cell("JSON schema", async () => {
    const { output } = await generateText({
      model: structured,
      prompt: QUESTION,
      output: Output.object({ schema: jsonSchema(CAPITAL_SCHEMA) }),
      maxRetries,
    });
    checkCapital(output);
  });
  const needs = ["tools"];
  cell("tools, auto", () => checkTools(chat, "auto"), { needs });
  cell("tools, required", () => checkTools(chat, "required"), { needs });
  cell("embeddings", () => embed({ model: embedding, value: QUESTION, maxRetries }), {
    refused: "/v1/embeddings",
  });
}
