// Run one client's cells against a server, and print a JSON line for each. As cells/cells.py.

import assert from "node:assert/strict";

export const QUESTION = "Name the capital of France.";
export const PROMPT = "The capital of France is";
export const TOOL_QUESTION = "What is the weather in Paris, in celsius?";
export const WEATHER_SCHEMA = {
  type: "object",
  properties: {
    city: { type: "string" },
    unit: { type: "string", enum: ["celsius", "fahrenheit"] },
  },
  required: ["city", "unit"],
  additionalProperties: false,
};
export const CAPITAL_SCHEMA = {
  type: "object",
  properties: { country: { type: "string" }, population: { type: "integer" } },
  required: ["country", "population"],
  additionalProperties: false,
};

export const server = JSON.parse(process.argv[2]);
server.api = `${server.url}/v1`;

const cells = [];

/** Register a cell. refused: what the server must name; needs: abilities of the model. */
export function cell(feature, run, { refused = null, needs = [] } = {}) {
  const missing = needs.filter((ability) => !server.abilities.includes(ability));
  cells.push({ feature, run, refusal: missing[0] ?? refused });
}

export function checkAnswer(text) {
  assert.ok(text?.includes("Paris"), text);
}

export function checkWeather(args) {
  const values = typeof args === "string" ? JSON.parse(args) : args;
  assert.deepEqual(Object.keys(values).sort(), ["city", "unit"]);
  assert.equal(typeof values.city, "string");
  assert.ok(WEATHER_SCHEMA.properties.unit.enum.includes(values.unit), values.unit);
}

export function checkCapital(value) {
  const values = typeof value === "string" ? JSON.parse(value) : value;
  assert.deepEqual(Object.keys(values).sort(), ["country", "population"]);
  assert.equal(typeof values.country, "string");
  assert.ok(Number.isInteger(values.population), values.population);
}

function messages(error) {
  const texts = [];
  for (let current = error; current; current = current.cause ?? current.lastError) {
    texts.push(`${current.name}: ${current.message}`);
    if (current.responseBody) texts.push(current.responseBody);
  }
  return texts.join("\n");
}

async function outcome({ run, refusal }) {
  try {
    await run();
  } catch (error) {
    const message = messages(error);
    if (refusal !== null && message.includes(refusal)) return { outcome: "refused", message };
    console.error(error);
    return { outcome: "failed", message };
  }
  if (refusal === null) return { outcome: "works", message: "" };
  return { outcome: "failed", message: `was not refused with a message of ${refusal}` };
}

/** Run all registered cells. */
export async function main() {
  for (const each of cells) {
    console.log(JSON.stringify({ feature: each.feature, ...(await outcome(each)) }));
  }
}
