// A person at JupyterLab: opens the page, makes a notebook, runs a cell, and after somebody has
// killed the host of its executor runs the next one.
import { openLauncher, openNotebook, outputOf, say, startCell, tell } from './lab.mjs';

await tell(async (page, { goOn, shot }) => {
  const card = await openLauncher(page);
  await shot('1-launcher');
  say('launcher', { title: await card.innerText() });

  await openNotebook(page, card);
  await startCell(page, "harvest = {'apples': 12, 'pears': 30}\nsum(harvest.values())");
  const first = await outputOf(page, 1);
  await shot('2-first-cell');
  say('first', { text: first });

  await goOn();
  await startCell(page, "harvest['plums'] = 7\nharvest");
  const second = await outputOf(page, 2);
  await shot('3-after-the-host-was-killed');
  say('second', { text: second });
});
