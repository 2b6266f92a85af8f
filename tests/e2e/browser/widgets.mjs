// A person with a slider: it works, its kernel fails over, it is visibly closed, a new one works.
import { cellNumbered, openLauncher, openNotebook, outputOf, say, startCell, tell } from './lab.mjs';

const SLIDER = 'import ipywidgets\nslider = ipywidgets.IntSlider(value=3, max=10)\nslider';

// Moves the slider of a cell two steps to the right, as with the keyboard.
async function moveSlider(page, number) {
  const handle = cellNumbered(page, number).locator('.widget-slider .noUi-handle');
  await handle.waitFor();
  await handle.focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
}

await tell(async (page, { goOn, shot }) => {
  const card = await openLauncher(page);
  const logo = card.locator('img').first();
  say('launcher', {
    title: await card.innerText(),
    logoWidth: await logo.evaluate(async image => { await image.decode(); return image.naturalWidth; }),
  });
  await openNotebook(page, card);
  await startCell(page, SLIDER);
  await moveSlider(page, 1);
  await startCell(page, 'slider.value');
  say('moved', { text: await outputOf(page, 2) });

  await goOn();  // its interpreter is killed meanwhile
  const view = cellNumbered(page, 1).locator('.widget-slider:not(.jupyter-widgets-disconnected)');
  await view.waitFor({ state: 'detached' });
  await shot('widget-closed');
  const left = await cellNumbered(page, 1).locator('.jp-OutputArea-output').allInnerTexts();
  await startCell(page, "'next'");
  say('closed', { left: left.join(' ').trim(), text: await outputOf(page, 3) });

  await startCell(page, SLIDER.replace('value=3', 'value=5'));
  await moveSlider(page, 4);
  await startCell(page, 'slider.value');
  say('again', { text: await outputOf(page, 5) });
});
