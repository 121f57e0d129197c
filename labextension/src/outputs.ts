/** Outputs of cells, folded as a notebook shows them; the same as `outputs.fold` in Python. */

import { isObject, type Json, type Output } from './protocol';

/** Give what a notebook shows after `outputs`: streams joined, updates applied, cleared outputs gone. */
export function fold(outputs: Iterable<Output>): Output[] {
  let shown: Output[] = [];
  let clearNext = false;
  for (const output of outputs) {
    if (output.output_type === 'clear_output') {
      clearNext = Boolean(output.wait);
      shown = clearNext ? shown : [];
      continue;
    }
    if (output.output_type === 'update_display_data') {
      shown = shown.map(each => updated(each, output));
      continue;
    }
    if (clearNext) {
      [shown, clearNext] = [[], false];
    }
    const last = shown.at(-1);
    if (output.output_type !== 'stream') {
      shown.push(output);
    } else if (last?.output_type === 'stream' && last.name === output.name) {
      shown[shown.length - 1] = { ...last, text: textOf(last.text) + textOf(output.text) };
    } else {
      shown.push({ ...output, text: textOf(output.text) });
    }
  }
  return shown;
}

/** Give the text of a MIME value: nbformat allows a string or a list of lines. */
export function textOf(value: Json | undefined): string {
  return Array.isArray(value) ? value.join('') : String(value ?? '');
}

function displayId(output: Output): string {
  return isObject(output.transient) ? String(output.transient.display_id ?? '') : '';
}

function updated(output: Output, update: Output): Output {
  const same = displayId(output) && displayId(output) === displayId(update);
  return same ? { ...output, data: update.data ?? {}, metadata: update.metadata ?? {} } : output;
}
