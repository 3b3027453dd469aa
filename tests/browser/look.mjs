// Looks at the pages in a browser, as people with different eyes, hands, screens and settings would.
//
// Started by the test `pages_in_a_browser`, which serves the pages and says on standard input where they are.
// Prints one line of JSON for each promise: {"promise": ..., "broken": null or what was seen}.
// HARKARA_BROWSER is the folder of the installed packages; HARKARA_SCREENSHOTS, if set, a folder for pictures.

import { createRequire } from "node:module";
import { readFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.env.HARKARA_BROWSER;
const require = createRequire(join(folder, "package.json"));
const load = async (name) => await import(pathToFileURL(require.resolve(name)));
const puppeteer = (await load("puppeteer-core")).default;
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const screenshots = process.env.HARKARA_SCREENSHOTS;
if (screenshots) mkdirSync(screenshots, { recursive: true });

const { pages, walk } = JSON.parse(readFileSync(0, "utf8"));

/// The package brings a browser for x86-64; elsewhere the system's own is taken.
async function findBrowser() {
  if (process.env.HARKARA_CHROMIUM) return process.env.HARKARA_CHROMIUM;
  if (process.arch !== "x64") return "/usr/bin/chromium";
  return await (await load("@sparticuz/chromium")).default.executablePath();
}

const browser = await puppeteer.launch({
  executablePath: await findBrowser(),
  headless: "shell",
  // Our own pages only, on this machine; the sandbox wants rights that a container does not give.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"],
});

async function promise(text, look) {
  let broken = null;
  try {
    await look();
  } catch (error) {
    broken = String(error?.stack ?? error);
  }
  console.log(JSON.stringify({ promise: text, broken }));
}

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

/// A page that fails when the browser complains of anything, or asks anybody else for anything.
async function open(url, { scheme = "light", width = 1280, scripts = true } = {}) {
  const page = await browser.newPage();
  const complaints = [];
  // A page that says 4xx is one of ours all the same; the browser notes each.
  page.on("console", (message) => {
    if (!message.text().startsWith("Failed to load resource")) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    // The browser's own picture in a field for a time.
    if (request.url().startsWith("data:")) return;
    if (new URL(request.url()).origin !== new URL(url).origin) complaints.push(`asked for ${request.url()}`);
  });
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setJavaScriptEnabled(scripts);
  const answer = await page.goto(url, { waitUntil: "load" });
  return { page, complaints, status: answer.status() };
}

/// Presses what is focused and waits for the page that follows.
async function follow(page, act) {
  await Promise.all([page.waitForNavigation({ waitUntil: "load" }), act()]);
}

const text = async (page, selector) =>
  await page.$$eval(selector, (found) => found.map((element) => element.textContent.trim()).join(" | "));

for (const { name, url, lang, status } of pages) {
  for (const scheme of ["light", "dark"]) {
    await promise(`${name} has no fault that axe knows of (${scheme})`, async () => {
      const { page, complaints } = await open(url, { scheme });
      if (screenshots) await page.screenshot({ path: join(screenshots, `${name}-${scheme}.png`), fullPage: true });
      await page.evaluate(axe);
      const { violations, incomplete } = await page.evaluate(async () =>
        await window.axe.run(document, { rules: { "target-size": { enabled: true } } }));
      const told = [...violations, ...incomplete].map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(" ")}`);
      expect(told.length === 0, told.join("\n"));
      expect(complaints.length === 0, complaints.join("\n"));
      await page.close();
    });
  }
  await promise(`${name} is in ${lang}, has one heading, and its style is applied`, async () => {
    const { page, status: answered } = await open(url);
    expect(answered === status, `status ${answered}`);
    const seen = await page.evaluate(() => ({
      lang: document.documentElement.lang,
      headings: document.querySelectorAll("h1").length,
      title: document.title,
      width: getComputedStyle(document.querySelector("main")).maxWidth,
    }));
    expect(seen.lang === lang, `lang=${seen.lang}`);
    expect(seen.headings === 1, `${seen.headings} headings`);
    expect(seen.title.length > 5, `title: ${seen.title}`);
    expect(seen.width !== "none", "the policy keeps the page's own style away");
    await page.close();
  });
  for (const [what, width, zoom] of [["a screen of 320 pixels", 320, 1], ["letters of twice the size", 640, 2]]) {
    await promise(`${name} does not scroll sideways on ${what}`, async () => {
      const { page } = await open(url, { width });
      const seen = await page.evaluate((zoom) => {
        const size = parseFloat(getComputedStyle(document.documentElement).fontSize);
        document.documentElement.style.fontSize = `${size * zoom}px`;
        const wide = [...document.querySelectorAll("body *")].filter(
          (element) => element.getBoundingClientRect().right > window.innerWidth + 0.5);
        return { width: document.documentElement.scrollWidth, wide: wide.map((element) => element.outerHTML.slice(0, 120)) };
      }, zoom);
      if (screenshots) await page.screenshot({ path: join(screenshots, `${name}-${width}.png`), fullPage: true });
      expect(seen.width <= width, `${seen.width} pixels wide`);
      expect(seen.wide.length === 0, seen.wide.join("\n"));
      await page.close();
    });
  }
  await promise(`${name} shows where the keyboard is, at every stop, in the order of the page`, async () => {
    const { page } = await open(url);
    const stops = await page.$$eval("a[href], button, input:not([type=hidden]), select", (all) => all.length);
    const seen = [];
    for (let stop = 0; stop < stops * 4 && seen.length < stops; stop += 1) {
      await page.keyboard.press("Tab");
      const { place, outline } = await page.evaluate(() => {
        const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select")];
        const style = getComputedStyle(document.activeElement);
        return { place: all.indexOf(document.activeElement), outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
      });
      // A time has a stop for hours, minutes and halves of the day.
      if (place === seen.at(-1)) continue;
      expect(place === seen.length, `stop ${place} comes after ${seen.at(-1)}`);
      expect(outline, `stop ${place} has no outline`);
      seen.push(place);
    }
    expect(seen.length === stops, `${seen.length} of ${stops} can be reached`);
    await page.close();
  });
}

for (const scripts of [true, false]) {
  const how = scripts ? "with the keyboard alone" : "without JavaScript";
  const press = async (page, selector) => {
    if (!scripts) return await follow(page, () => page.click(selector));
    await page.focus(selector);
    await follow(page, () => page.keyboard.press("Enter"));
  };
  await promise(`somebody leaves a category, comes back and leaves again, ${how}`, async () => {
    const { page } = await open(walk.unsubscribe, { scripts });
    expect((await text(page, "[role=status]")) === "", "nothing has happened yet");
    await press(page, "button[name='List-Unsubscribe']");
    const left = await text(page, "[role=status]");
    expect(left !== "" && (await page.$("button[name=undo]")) !== null, await page.content());
    if (screenshots && scripts) await page.screenshot({ path: join(screenshots, "left.png"), fullPage: true });
    await press(page, "button[name=undo]");
    const back = await text(page, "[role=status]");
    expect(back !== "" && back !== left, await page.content());
    await press(page, "button[name='List-Unsubscribe']");
    expect((await text(page, "[role=status]")) === left, "the same again");
    await page.goto(walk.unsubscribe);
    expect((await text(page, "[role=status]")) === left, "and it stays so");
    await press(page, "button[name=undo]");
    await page.close();
  });

  await promise(`somebody gets from leaving to all preferences, and saves them, ${how}`, async () => {
    const { page } = await open(walk.unsubscribe, { scripts });
    await press(page, "p.more a");
    const box = "input[type=checkbox]";
    const before = await page.$eval(box, (it) => it.checked);
    if (scripts) {
      await page.focus(box);
      await page.keyboard.press("Space");
    } else {
      await page.click(box);
    }
    await page.select("select", "daily");
    await press(page, "button[type=submit]");
    expect((await text(page, "[role=status]")) !== "", await page.content());
    if (screenshots && scripts) await page.screenshot({ path: join(screenshots, "saved.png"), fullPage: true });
    await page.goto(page.url());
    expect((await page.$eval(box, (it) => it.checked)) !== before, "it was not kept");
    expect((await page.$eval("select", (it) => it.value)) === "daily", "the choice was not kept");
    await page.click(box);
    await page.select("select", "immediate");
    await press(page, "button[type=submit]");
    await page.close();
  });

  await promise(`somebody acknowledges with one press, and no second one does anything, ${how}`, async () => {
    const link = walk.acknowledge[scripts ? 0 : 1];
    const { page } = await open(link, { scripts });
    expect((await text(page, "[role=status]")) === "", "nothing has happened yet");
    await page.goto(link);
    expect((await text(page, "[role=status]")) === "", "and looking again is nothing, too");
    await press(page, "button[type=submit]");
    expect((await text(page, "[role=status]")) !== "" && (await page.$("button")) === null, await page.content());
    if (screenshots && scripts) await page.screenshot({ path: join(screenshots, "acknowledged.png"), fullPage: true });
    const again = await page.goto(link);
    expect(again.status() === 410 && (await page.$("button")) === null, `status ${again.status()}`);
    await page.close();
  });

  await promise(`a time that is missing is told beside its field, and nothing is saved, ${how}`, async () => {
    const { page } = await open(walk.preferences, { scripts });
    const before = await page.$eval("#quiet_until", (it) => it.value);
    // A field that cannot be written by a picker: what it sends is what matters.
    await page.$eval("#quiet_from", (it) => { it.value = "22:00"; });
    await page.$eval("#quiet_until", (it) => { it.value = ""; });
    await press(page, "button[type=submit]");
    const seen = await page.$eval("#quiet_until", (it) => ({
      invalid: it.getAttribute("aria-invalid"),
      told: document.getElementById(it.getAttribute("aria-describedby") ?? "")?.textContent ?? "",
    }));
    expect(seen.invalid === "true" && seen.told !== "", JSON.stringify(seen));
    expect((await text(page, "[role=alert]")) !== "" && (await text(page, "[role=status]")) === "", "said at the top");
    expect((await page.$eval("#quiet_from", (it) => it.value)) === "22:00", "what was written stays");
    if (screenshots && scripts) await page.screenshot({ path: join(screenshots, "wrong.png"), fullPage: true });
    await page.goto(walk.preferences);
    expect((await page.$eval("#quiet_until", (it) => it.value)) === before, "nothing was saved");
    await page.close();
  });
}

await browser.close();
