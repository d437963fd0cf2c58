// Reads the contract with AsyncAPI's own parser and with ajv, which most JavaScript validates with:
//   node check.mjs SCHEMAS      its generated/ and examples/; prints one JSON object of what each said
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Parser } from "@asyncapi/parser";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const schemas = process.argv[2];
const read = (...path) => readFileSync(join(schemas, ...path), "utf8");
const json = (...path) => JSON.parse(read(...path));

async function asyncapi() {
  const { document, diagnostics } = await new Parser().parse(read("generated", "asyncapi.yaml"));
  const problems = diagnostics.filter(({ severity }) => severity <= 1); // errors and warnings
  return {
    problems: problems.map(({ code, message, path }) => `${path.join("/")}: ${code}: ${message}`),
    topics: document ? document.allChannels().all().map((channel) => channel.address()) : [],
  };
}

// strict but for types and `required` that stand one level above a condition
const ajv = addFormats(new Ajv2020({ strict: true, strictTypes: false, strictRequired: false }));
const [event, report] = ["event", "report"].map((name) => ajv.compile(json("generated", `${name}.schema.json`)));

function reports(kind) {
  const names = readdirSync(join(schemas, "examples", kind)).filter((name) => name.endsWith(".json"));
  return Object.fromEntries(
    names.map((name) => {
      const example = json("examples", kind, name);
      return [name, report(kind === "valid" ? example : example.report)];
    }),
  );
}

console.log(
  JSON.stringify({
    asyncapi: await asyncapi(),
    event: event(json("examples", "event.json")),
    valid: reports("valid"),
    invalid: reports("invalid"),
  }),
);
