import { describe, expect, it } from 'vitest';

import { decode, type JsonObject } from '../src/protocol';
import { digest, recordFrom } from '../src/record';
import { type Turn, turnFrom } from '../src/turns';
import { fixture } from './fixtures';

interface Case {
  name: string;
  events: JsonObject[];
  turn: JsonObject;
  record: JsonObject;
}

function shown(turn: Turn): unknown {
  const { id, thread, prompt, model, retries, notice, reason, answer, detail, seconds } = turn;
  return {
    ...{ id, thread, prompt, model, retries, notice, reason, answer, detail, seconds },
    usage: turn.usage,
    unfinished: turn.parser?.unfinished ?? '',
    steps: turn.steps.map(step =>
      step.parts.map(part =>
        typeof part === 'string'
          ? part
          : { cell: part.id, status: part.status, code: part.code, outputs: part.outputs }
      )
    )
  };
}

const cases = fixture<Case[]>('turns.json');

describe('a turn is the fold of its events', () => {
  it.each(cases)('$name', ({ events, turn }) => {
    expect(shown(turnFrom(events.map(decode)))).toEqual(turn);
  });
});

describe('a record is written as the kernel writes it', () => {
  it.each(cases)('$name', ({ events, record }) => {
    expect(recordFrom(events.map(decode))).toEqual(record);
  });

  it('with the SHA-256 of sources', () => {
    const expected = '396c0f1f87f5335cc6dc9cbe639884415a0f4c3609de5cfd91360f0e9d5fa63b';
    expect(digest('x = 1 # µ')).toBe(expected);
  });
});
