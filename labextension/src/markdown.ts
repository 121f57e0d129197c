/** Markdown that the document is given beside what the model writes; the same as in `notebooks/render.py`. */

import type { CellDecided } from './protocol';

const LONGEST = 500; // characters of a reason

/** Say in the document that a cell was not run, with its code. */
export function rejectedMarkdown(code: string, language: string, decided: CellDecided): string {
  const who = decided.by === 'user' ? 'you' : 'the settings';
  const risk = decided.risk ? ` (may ${decided.risk})` : '';
  const reason = decided.reason ? `: ${decided.reason}` : '';
  const said = bounded(`rejected by ${who}${risk}${reason}`);
  const escaped = said.replace(/([\\`*_[\]<>&!])/g, '\\$1'); // what Markdown would take for more than text
  return `**Not run**, ${escaped}\n\n${fenced(code, language)}`;
}

function bounded(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} ...` : text;
}

/** Fence a text with more backticks than it holds in a row. */
function fenced(text: string, label: string): string {
  const runs = (text.match(/`{3,}/g) ?? []).map(run => run.length);
  const fence = '`'.repeat(Math.max(2, ...runs) + 1);
  return `${fence}${label.replace(/[^\w+.#-]/g, '')}\n${text}\n${fence}`;
}
