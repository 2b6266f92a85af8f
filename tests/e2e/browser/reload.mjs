// A person who reloads the page while a cell runs: the kernel is shown busy, then idle, with all
// variables.
import {
  openLauncher, openNotebook, outputOf, reload, saveAs, say, startCell, tell, untilStatus,
} from './lab.mjs';

await tell(async (page, { goOn }) => {
  await openNotebook(page, await openLauncher(page));
  await startCell(page, 'import pathlib, time\nwhile not pathlib.Path("go-on").exists(): time.sleep(.1)\n'
                  + 'found = "after the reload"');
  await untilStatus(page, 'busy');
  await saveAs(page, 'kept.ipynb');
  say('busy', { cells: await reload(page) });
  await goOn();  // the cell may end
  await untilStatus(page, 'idle');
  await page.locator('.jp-Notebook .jp-CodeCell .cm-content').last().click();
  await page.keyboard.press('Escape');
  await page.keyboard.press('b');
  await page.keyboard.press('Enter');
  await page.keyboard.insertText('found');
  await page.keyboard.press('Shift+Enter');
  say('idle', { text: await outputOf(page, 2) });
});
