// A person at JupyterLab: opens the page, makes a notebook, runs a cell, and after somebody has
// killed the host of its executor runs the next one.
//
//   NBOS_LAB_URL=http://.../lab?token=... NBOS_SHOTS=DIR node browser/notebook.mjs
//
// Prints one line of JSON for each step, and waits for a line on stdin where the host is killed.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { chromium } from 'playwright-core';

const { NBOS_LAB_URL, NBOS_SHOTS, NBOS_CHROMIUM = '/usr/bin/chromium' } = process.env;
const LIMIT_MS = 120_000;
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
               '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const browser = await chromium.launch({ executablePath: NBOS_CHROMIUM, args: FLAGS });
const page = await browser.newPage({ viewport: { width: 1200, height: 720 } });
page.setDefaultTimeout(LIMIT_MS);
const lines = createInterface({ input: process.stdin });

function say(step, more = {}) {
  console.log(JSON.stringify({ step, ...more }));
}

async function shot(name) {
  if (NBOS_SHOTS) {
    mkdirSync(NBOS_SHOTS, { recursive: true });
    await page.screenshot({ path: join(NBOS_SHOTS, `${name}.png`) });
  }
}

// Types into the active cell, runs it, and gives the text of its outputs once it has its number.
async function runCell(code, number) {
  await page.keyboard.insertText(code);
  await page.keyboard.press('Shift+Enter');
  const prompt = page.locator('.jp-InputPrompt', { hasText: `[${number}]:` });
  const cell = page.locator('.jp-Notebook .jp-CodeCell', { has: prompt }).first();
  await cell.locator('.jp-OutputArea-output').first().waitFor();
  return (await cell.locator('.jp-OutputArea-output').allInnerTexts()).join('\n').trim();
}

try {
  await page.goto(NBOS_LAB_URL);
  const card = page.locator('.jp-LauncherCard[data-category="Notebook"]').first();
  await card.waitFor();
  // JupyterLab's question about news would lie over the page.
  await page.getByRole('button', { name: 'No', exact: true }).click({ timeout: 5000 })
    .catch(() => {});
  await shot('1-launcher');
  say('launcher', { title: await card.innerText() });

  await card.click();
  await page.locator('.jp-Notebook .jp-CodeCell .cm-content').first().click();
  await page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first().waitFor();
  const first = await runCell("harvest = {'apples': 12, 'pears': 30}\nsum(harvest.values())", 1);
  await shot('2-first-cell');
  say('first', { text: first });

  await lines[Symbol.asyncIterator]().next();
  await page.locator('.jp-Notebook .jp-CodeCell .cm-content').last().click();
  const second = await runCell("harvest['plums'] = 7\nharvest", 2);
  await shot('3-after-the-host-was-killed');
  say('second', { text: second });
} catch (error) {
  await shot('failure');
  say('failed', { error: String(error?.stack ?? error) });
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}
