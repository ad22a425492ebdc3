// Drives Chromium over its DevTools pipe. A command is a line on standard input, its answer a line of JSON.
//
//   eval SCRIPT                      the value of a script on the page
//   wait SCRIPT                      the same, looked at again and again until it is true
//   shot FILE WIDTH HEIGHT SCHEME    a picture of the whole page, light or dark
//   type TEXT                        keys into what has the focus; press KEY: one key
//   seen                             console messages, exceptions, and every address that was asked for
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const readline = require("node:readline");

const [program, profile, url] = process.argv.slice(2);
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--hide-scrollbars",
  "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  `--user-data-dir=${profile}`, "--remote-debugging-pipe", "about:blank",
];
const chromium = spawn(program, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const [to, from] = [chromium.stdio[3], chromium.stdio[4]];
const waiting = new Map();
const seen = { console: [], exceptions: [], requests: [] };
let asked = 0;
let next = 1;
let rest = Buffer.alloc(0);
let session;

from.on("data", (data) => {
  rest = Buffer.concat([rest, data]);
  for (let end; (end = rest.indexOf(0)) >= 0; rest = rest.subarray(end + 1)) {
    const message = JSON.parse(rest.subarray(0, end).toString());
    const { method, params } = message;
    if (message.id) {
      const { resolve, reject } = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.error) reject(new Error(message.error.message));
      else resolve(message.result);
    } else if (method === "Runtime.consoleAPICalled") {
      seen.console.push(`${params.type}: ${params.args.map((arg) => arg.value ?? arg.description).join(" ")}`);
    } else if (method === "Log.entryAdded") {
      seen.console.push(`${params.entry.level}: ${params.entry.text} ${params.entry.url ?? ""}`);
    } else if (method === "Runtime.exceptionThrown") {
      seen.exceptions.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    } else if (method === "Network.requestWillBeSent") {
      seen.requests.push(params.request.url);
    }
  }
});

function call(method, params = {}) {
  const id = next++;
  to.write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

async function open() {
  const { targetInfos } = await call("Target.getTargets");
  const { targetId } = targetInfos.find((target) => target.type === "page");
  session = (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await call(`${domain}.enable`);
  await call("Page.navigate", { url });
}

const commands = {
  async eval(script) {
    const { result, exceptionDetails } = await call("Runtime.evaluate", { expression: script, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception.description);
    return result.value;
  },
  async wait(script) {
    for (const end = Date.now() + 30000; ; ) {
      // Until the page is loaded its parts are not there.
      const value = await commands.eval(script).catch((error) => { if (Date.now() > end) throw error; });
      if (value || Date.now() > end) return value;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
  async shot(words) {
    const [file, width, height, scheme] = words.split(" ");
    const mobile = Number(width) < 600;
    await call("Emulation.setDeviceMetricsOverride", { width: +width, height: +height, deviceScaleFactor: mobile ? 2 : 1, mobile });
    await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await call("Runtime.evaluate", { expression: "dispatchEvent(new Event('resize'))" });
    const { data } = await call("Page.captureScreenshot", { captureBeyondViewport: true, format: "png" });
    fs.writeFileSync(file, Buffer.from(data, "base64"));
    return file;
  },
  async type(text) {
    await call("Input.insertText", { text });
  },
  async press(key) {
    const code = { Tab: 9, Enter: 13, ArrowLeft: 37, ArrowRight: 39 }[key];
    const event = { key, code: key, windowsVirtualKeyCode: code, text: key === "Enter" ? "\r" : undefined };
    await call("Input.dispatchKeyEvent", { type: "keyDown", ...event });
    await call("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  },
  async seen() {
    return seen;
  },
};

const ready = open();
readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const [, command, argument] = line.match(/^(\S+) ?(.*)$/);
  let answer;
  const number = ++asked;
  try {
    await ready;
    answer = { value: (await commands[command](argument)) ?? null };
  } catch (error) {
    answer = { error: String(error.message) };
  }
  process.stdout.write(JSON.stringify({ number, ...answer }) + "\n");
}).on("close", () => chromium.kill("SIGKILL"));
chromium.on("exit", () => process.exit(0));
