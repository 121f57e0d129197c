/** What is kept of a turn in the notebook; the same as `record.py`, whose format this is. */

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';

import { fold } from './outputs';
import { encode, type Event, type JsonObject, type Output } from './protocol';

const VERSION = 1;
/** Key of our metadata in cells. */
export const KEY = 'codeact';

export type Role = 'prompt' | 'narration' | 'cell' | 'answer';

/**
 * Write a turn's record.
 *
 * @param events - of the turn; outputs among them stand in the record, all others are those of the document's cells
 */
export function recordFrom(events: Iterable<Event>): JsonObject {
  const rows: JsonObject[] = [];
  const pending = new Map<string, Output[]>();
  const models = new Set<string>();
  let [turn, thread] = ['', ''];
  for (const event of events) {
    if (event.type === 'TurnStarted') {
      [turn, thread] = [event.turn, event.thread];
    } else if (event.type === 'ReplyFinished' && event.model) {
      models.add(event.model);
    } else if (event.type === 'CellOutput') {
      pending.set(event.cell, [...(pending.get(event.cell) ?? []), event.output]);
      continue;
    } else if (event.type === 'ReplyDelta') {
      continue;
    }
    if (event.type === 'CellFinished' || event.type === 'TurnFinished') {
      for (const cell of event.type === 'CellFinished' ? [event.cell] : [...pending.keys()]) {
        const folded = fold(pending.get(cell) ?? []);
        rows.push(...folded.map(output => encode({ type: 'CellOutput', cell, output })));
        pending.delete(cell);
      }
    }
    rows.push(encode(event));
  }
  const scripted = [...models].some(name => name.startsWith('scripted'));
  return {
    version: VERSION,
    turn,
    thread,
    model: [...models].join(', '),
    origin: scripted ? 'scripted' : 'model',
    events: rows
  };
}

/** Give the SHA-256 of a cell's source. Not the browser's own, which pages without TLS do not have. */
export function digest(source: string): string {
  return bytesToHex(sha256(utf8ToBytes(source)));
}
