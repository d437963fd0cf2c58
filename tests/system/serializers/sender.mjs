// One report as a Node platform writes it: fetch and http, announced and streamed.
import http from "node:http";

const url = process.argv[2];
const report = {
  report_id: "r-serialized",
  case_id: "c-serialized",
  kind: "repair",
  category: "0211",
  stage: "reported",
  occurred_at: new Date("2020-11-04T08:00:00+08:00"),
  location: { address: "杨树浦路 × 秦皇岛路", street_code: "", grid_code: null, component_id: undefined, x: NaN, crs: "" },
  source: null,
  source_name: undefined,
  supervision: "",
  campaign: { name: null, phase: null, level: "" },
  description: "两根立柱\r\n已更换",
  attachments: [{ url: "https://img.example.cn/1.jpg", usage: null, media: "" }],
  handler: {},
  reporter: null,
  extra: null,
};
const one = JSON.stringify(report);
const two = JSON.stringify([report, report]);
const headers = { "Content-Type": "application/json" };

function told(how, status, answer) {
  console.log(JSON.stringify({ how, status, answer }));
}

// Piece by piece, each long after the one before, so that they do not travel together.
async function* pieces(text) {
  const bytes = new TextEncoder().encode(text);
  for (let start = 0; start < bytes.length; start += 97) {
    yield bytes.subarray(start, start + 97);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function fetched(how, path, body) {
  const answer = await fetch(url + path, { method: "POST", headers, body, duplex: "half" });
  told(how, answer.status, await answer.text());
}

async function requested(how, path, text) {
  const answer = await new Promise((resolve, reject) => {
    const request = http.request(url + path, { method: "POST", headers }, resolve);
    request.on("error", reject);
    (async () => {
      for await (const piece of pieces(text)) request.write(piece);
      request.end();
    })();
  });
  let body = "";
  for await (const piece of answer) body += piece;
  told(how, answer.statusCode, body);
}

await fetched("Node, fetch, announced", "/v1/reports", one);
await fetched("Node, fetch, streamed", "/v1/reports", ReadableStream.from?.(pieces(one)) ?? pieces(one));
await fetched("Node, fetch, array, streamed", "/v1/reports/batch", ReadableStream.from?.(pieces(two)) ?? pieces(two));
await requested("Node, http, streamed", "/v1/reports", one);
await requested("Node, http, array, streamed", "/v1/reports/batch", two);
