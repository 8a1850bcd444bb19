/**
 * The script of the status page. It asks for the page every two seconds while it is seen, and replaces the sections that
 * have changed, except one in which text is selected. Opened details stay open.
 */
export const SCRIPT = `
'use strict';
const shown = new Map();
async function look() {
  const lost = document.getElementById('lost');
  try {
    if (document.hidden) return;
    const answer = await fetch('/status', { cache: 'no-store', signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const selection = getSelection();
    const main = document.querySelector('main');
    const ids = [];
    for (const section of page.querySelectorAll('main > section')) {
      ids.push(section.id);
      const text = section.innerHTML;
      const old = document.getElementById(section.id);
      if (shown.get(section.id) === text && old !== null) continue;
      if (old !== null && !selection.isCollapsed && old.contains(selection.anchorNode)) continue;
      shown.set(section.id, text);
      for (const details of section.querySelectorAll('details[id]'))
        details.open = document.getElementById(details.id)?.open ?? details.open;
      const place = ids.length === 1 ? null : document.getElementById(ids[ids.length - 2]);
      const focused = old?.contains(document.activeElement) ? document.activeElement.closest('details')?.id : undefined;
      if (old !== null) old.replaceWith(section);
      else if (place === null) main.prepend(section);
      else place.after(section);
      if (focused) document.getElementById(focused)?.querySelector('summary')?.focus();
    }
    for (const section of main.querySelectorAll('section')) if (!ids.includes(section.id)) section.remove();
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  } finally {
    setTimeout(look, 2000);
  }
}
setTimeout(look, 2000);
`;
