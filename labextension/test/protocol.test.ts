import { describe, expect, it } from 'vitest';

import {
  decode,
  encode,
  isOutput,
  type JsonObject,
  Malformed,
  messageIn,
  openingIn
} from '../src/protocol';
import { fixture } from './fixtures';

const rows = fixture<JsonObject[]>('events.json');
const started = { type: 'TurnStarted', turn: 't', thread: 'm', prompt: 'p', filled: 'p' };

describe('events', () => {
  it.each(rows.map(row => [JSON.stringify(row).slice(0, 60), row]))('%s', (_, row) => {
    expect(encode(decode(row))).toEqual(row);
  });

  it('have their defaults', () => {
    expect(decode(started)).toMatchObject({ context: '', language: 'python', kernel: '' });
  });

  it('may have fields that are not known', () => {
    expect(encode(decode({ ...started, mood: 'good' }))).toEqual(started);
  });

  it.each([
    null,
    [],
    'TurnStarted',
    {},
    { type: 'toString' },
    { type: 'Unknown' },
    { type: 'ReplyDelta' },
    { type: 'ReplyDelta', text: 1 },
    { type: 'CellProposed', cell: 'c', step: 1.5, code: '' },
    { type: 'CellProposed', cell: 'c', step: true, code: '' },
    { type: 'CellStarted', cell: 'c', execution_count: '1' },
    { type: 'CellFinished', cell: 'c', status: 'fine' },
    { type: 'CellFinished', cell: 'c', status: 'ok', seconds: null },
    { type: 'CellFinished', cell: 'c', status: 'ok', changes: { created: ['x'] } },
    { type: 'CellFinished', cell: 'c', status: 'ok', changes: { files: [{ path: 'a' }] } },
    { type: 'ReplyFinished', text: '', usage: { input: -1 } },
    { type: 'CellOutput', cell: 'c', output: { output_type: 'stream', text: 'x' } },
    { type: 'CellOutput', cell: 'c', output: { output_type: 'display_data', data: [] } }
  ])('are refused where they are broken: %j', row => {
    expect(() => decode(row)).toThrow(Malformed);
  });
});

describe('outputs', () => {
  it('of unknown types are none', () => {
    expect([isOutput({}), isOutput(null), isOutput({ output_type: 'spam' })]).not.toContain(true);
  });
});

describe('messages', () => {
  const event = { type: 'event', owner: 'me', seq: 3, event: { type: 'ReplyDelta', text: 'x' } };

  it('are read', () => {
    expect(messageIn(event, 'me')).toEqual({ type: 'event', seq: 3, event: event.event });
    expect(messageIn({ type: 'begin', owner: 'me', replace: ['a'] }, 'me')).toEqual({
      type: 'begin',
      replace: ['a']
    });
    expect(messageIn({ type: 'ask', owner: 'me', cell: 'c', risk: 'r' }, 'me')).toEqual({
      type: 'ask',
      cell: 'c',
      risk: 'r'
    });
  });

  it('of another client or of unknown types are passed over', () => {
    expect([messageIn(event, 'you'), messageIn({ type: 'news', owner: 'me' }, 'me')]).toEqual([
      null,
      null
    ]);
  });

  it('that are broken are refused', () => {
    expect(() => messageIn({ ...event, event: {} }, 'me')).toThrow(Malformed);
    expect(() => messageIn({ type: 'begin', owner: 'me', replace: [1] }, 'me')).toThrow(Malformed);
  });

  it('open a turn', () => {
    const opening = { turn: 't', owner: 'o', cell: 'c', version: 1 };
    expect(openingIn(opening)).toEqual(opening);
    expect([openingIn({ ...opening, turn: 1 }), openingIn(null)]).toEqual([null, null]);
  });
});
