// JupyterLab in Chromium, one step at a time: what the scripts of this folder share.
//
//   NBOS_LAB_URL=http://.../lab?token=... NBOS_SHOTS=DIR node browser/SCRIPT.mjs
//
// Each step prints one line of JSON; lines on stdin let the script go on.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { chromium } from 'playwright-core';

const { NBOS_LAB_URL, NBOS_SHOTS, NBOS_CHROMIUM = '/usr/bin/chromium' } = process.env;
const LIMIT_MS = 120_000;
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
               '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export const LAB_URL = NBOS_LAB_URL;

export function say(step, more = {}) {
  console.log(JSON.stringify({ step, ...more }));
}

// The newest kinds of kernel messages to (>) and from (<) kernels.
const heard = [];

function listen(page) {
  const note = (way, payload) => {
    const kind = /"msg_type": ?"([a-z_]+)"/.exec(String(payload))?.[1] ?? 'a frame';
    const state = /"execution_state": ?"([a-z]+)"/.exec(String(payload))?.[1] ?? '';
    heard.push(`${way} ${kind} ${state}`.trim());
    heard.splice(0, heard.length - 40);
  };
  page.on('websocket', (socket) => {
    const where = new URL(socket.url()).pathname;
    if (where.endsWith('/channels')) {
      heard.push(`open ${where}`);
      socket.on('framesent', ({ payload }) => note('>', payload));
      socket.on('framereceived', ({ payload }) => note('<', payload));
      socket.on('close', () => heard.push(`close ${where}`));
    }
  });
}

// What a person would see of the notebook and over it.
async function look(page) {
  const texts = (selector) => page.locator(selector).allInnerTexts().catch(() => []);
  const status = page.locator('.jp-Notebook-ExecutionIndicator').first();
  return {
    status: await status.getAttribute('data-status', { timeout: 1000 }).catch(() => 'none'),
    prompts: await texts('.jp-InputPrompt'),
    cells: await texts('.jp-Notebook .cm-content'),
    outputs: await texts('.jp-OutputArea-output'),
    dialogs: await texts('.jp-Dialog'),
    notices: await texts('.jp-toast, .Toastify__toast'),
  };
}

// Runs `story(page, tools)`; a failure is a step named failed, with a picture.
export async function tell(story) {
  const browser = await chromium.launch({ executablePath: NBOS_CHROMIUM, args: FLAGS });
  const page = await browser.newPage({ viewport: { width: 1200, height: 720 } });
  page.setDefaultTimeout(LIMIT_MS);
  listen(page);
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const tools = {
    goOn: () => lines.next(),
    async shot(name) {
      if (NBOS_SHOTS) {
        mkdirSync(NBOS_SHOTS, { recursive: true });
        await page.screenshot({ path: join(NBOS_SHOTS, `${name}.png`) });
      }
    },
  };
  try {
    await story(page, tools);
  } catch (error) {
    await tools.shot('failure').catch(() => {});
    say('failed', { error: String(error?.stack ?? error), page: await look(page), heard });
    process.exitCode = 1;
  } finally {
    await browser.close();
    process.exit();
  }
}

// The launcher's first notebook card, with the logo that is on it.
export async function openLauncher(page, url = LAB_URL) {
  await page.goto(url);
  const card = page.locator('.jp-LauncherCard[data-category="Notebook"]').first();
  await card.waitFor();
  // JupyterLab's question about news would lie over the page.
  await page.getByRole('button', { name: 'No', exact: true }).click({ timeout: 5000 })
    .catch(() => {});
  return card;
}

// A new notebook whose kernel has answered. JupyterLab shows "idle" also before there is a kernel, and
// forgets a cell that is run then without a word.
export async function openNotebook(page, card) {
  await card.click();
  await page.locator('.jp-Notebook .jp-CodeCell .cm-content').first().waitFor();
  const late = Date.now() + LIMIT_MS;
  while (!heard.some((line) => line.startsWith('< kernel_info_reply'))) {
    if (Date.now() > late) {
      throw new Error('the kernel has not answered');
    }
    await page.waitForTimeout(50);
  }
  await untilStatus(page, 'idle');
}

export async function untilStatus(page, status) {
  await page.locator(`.jp-Notebook-ExecutionIndicator[data-status="${status}"]`).first().waitFor();
}

// Types `code` into the last cell and runs it. JupyterLab moves the focus when a kernel or an
// extension comes up: what is typed in that moment is lost, and a person would type it again.
export async function startCell(page, code) {
  const editor = page.locator('.jp-Notebook .jp-CodeCell .cm-content').last();
  const [firstLine] = code.split('\n');
  do {
    await editor.click();
    await page.keyboard.insertText(code);
  } while (!(await editor.innerText()).includes(firstLine));
  await editor.press('Shift+Enter');
}

// For the first time: JupyterLab asks for a name.
export async function saveAs(page, name) {
  const saved = page.waitForResponse((answer) => answer.request().method() === 'PUT'
                                     && answer.url().includes('/api/contents/') && answer.ok());
  await page.keyboard.press('Control+s');
  await page.locator('.jp-Dialog input').first().fill(name);
  await page.getByRole('button', { name: 'Rename and Save', exact: true }).click();
  await saved;
  await page.locator('.lm-TabBar-tabLabel', { hasText: name }).first().waitFor();
}

// The page anew, with the sources of the notebook's cells as it shows them then.
export async function reload(page) {
  await page.reload();
  await page.locator('.jp-Notebook .jp-CodeCell').first().waitFor();
  await untilStatus(page, 'busy');
  return page.locator('.jp-Notebook .jp-CodeCell .cm-content').allInnerTexts();
}

export function cellNumbered(page, number) {
  const prompt = page.locator('.jp-InputPrompt', { hasText: `[${number}]:` });
  return page.locator('.jp-Notebook .jp-CodeCell', { has: prompt }).first();
}

export async function outputOf(page, number) {
  const cell = cellNumbered(page, number);
  await cell.locator('.jp-OutputArea-output').first().waitFor();
  return (await cell.locator('.jp-OutputArea-output').allInnerTexts()).join('\n').trim();
}
