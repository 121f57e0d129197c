/** Types a reply into the document while it streams: its code into the cells that it will run in, its text around them. */

import { MarkdownCell } from '@jupyterlab/cells';

import type { Cells } from './cells';
import { type Block, codeOf, type ReplyParser } from './replies';
import type { Turn } from './turns';

/** A cell of the reply that streams: the id that it will have, and its source so far. */
export interface Draft {
  id: string;
  type: 'code' | 'markdown';
  source: string;
}

/** Give the id of a block's cell, as the kernel does: turn, step, number of the block in its reply. */
export function cellId(turn: Turn, step: number, block: number): string {
  return `${turn.id}-${step}-${block}`;
}

/** Give the id of the text before a block; what follows the last block stands before one that never came. */
export function textId(turn: Turn, step: number, block: number): string {
  return `${cellId(turn, step, block)}-text`;
}

/**
 * Give the cells of the reply that streams.
 *
 * Whether a block without a language runs is not known before the kernel has parsed the reply, so that nothing is said
 * of it and of what follows.
 */
export function draftsOf(turn: Turn): Draft[] {
  const parser = turn.parser;
  const drafts: Draft[] = [];
  const step = turn.steps.length + 1;
  let block = 1;
  for (const part of parser?.parts ?? []) {
    if (part.kind === 'narration') {
      const source = part.text.trim();
      drafts.push({ id: textId(turn, step, block), type: 'markdown', source });
      continue;
    }
    if (part.doubtful) {
      return drafts.filter(draft => draft.source);
    }
    const source = part.source + (part.closed || !parser ? '' : unfinished(parser, part));
    if (source.trim()) {
      const code = codeOf({ ...part, source });
      drafts.push({
        id: cellId(turn, step, block),
        type: 'code',
        source: turn.kernel ? `%%in_kernel ${turn.kernel}\n${code}` : code
      });
      block += 1;
    }
  }
  const line = parser?.unfinished ?? '';
  const last = parser?.parts.at(-1);
  if ((last?.kind !== 'block' || last.closed) && !/^\s*[`~<]/.test(line)) {
    const text = last?.kind === 'narration' ? (drafts.pop()?.source ?? '') : '';
    const source = `${text}\n${line}`.trim();
    drafts.push({ id: textId(turn, step, block), type: 'markdown', source });
  }
  return drafts.filter(draft => draft.source);
}

/** Give the line that is coming in, unless it may be the end of the block. */
function unfinished(parser: ReplyParser, block: Block): string {
  const line = parser.unfinished;
  const start = line.trimStart();
  return start && (block.fence.startsWith(start) || start.startsWith(block.fence)) ? '' : line;
}

/** Writes what streams into cells, once in `_interval` milliseconds. */
export class Typist {
  private _wanted = new Map<string, string>();
  private _typed = new Map<string, string>();
  private _timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly _cells: Cells,
    private readonly _interval: number
  ) {}

  /** Bring a cell's source to `text`, soon. */
  type(id: string, text: string): void {
    this._wanted.set(id, text);
    this._timer ??= setTimeout(() => this._write(), this._interval);
  }

  /** Forget what is to be typed. */
  stop(): void {
    if (this._timer !== null) {
      clearTimeout(this._timer);
    }
    this._timer = null;
    this._wanted.clear();
    this._typed.clear();
  }

  private _write(): void {
    this._timer = null;
    for (const [id, text] of this._wanted) {
      const cell = this._cells.find(id);
      const model = cell?.model.sharedModel;
      const source = model?.getSource() ?? '';
      if (!model || source === text || source !== (this._typed.get(id) ?? '')) {
        continue; // deleted, or the user writes there: the proposal will say what runs
      }
      if (text.startsWith(source)) {
        model.updateSource(source.length, source.length, text.slice(source.length));
      } else {
        model.setSource(text);
      }
      if (cell instanceof MarkdownCell) {
        cell.update(); // by itself it renders only when the text has rested for a second
      }
      this._typed.set(id, text);
    }
    this._wanted.clear();
  }
}
