/**
 * What happens in a turn, and the messages between a kernel and the client that owns the document.
 *
 * The same as `events.py` and `notebooks/protocol.py`; both sides' tests read one file of events.
 */

/** The comm's target name. */
export const TARGET = 'codeact';
export const VERSION = 1;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** One output as nbformat v4 writes it, or an operation on earlier ones: `clear_output`, `update_display_data`. */
export type Output = JsonObject & { output_type: string };

export type Status = 'ok' | 'error' | 'stopped' | 'timeout' | 'died';
export type Reason = 'answered' | 'stopped' | 'limit' | 'failed';
export type Decision = 'run' | 'edited' | 'rejected';
export type Cause = 'reply' | 'install' | 'again';

/** Tokens of one reply; `cached` is the part of `input` that came from the endpoint's cache. */
export interface Usage {
  input: number;
  output: number;
  cached: number;
}

/** A file of the working directory that a cell wrote or deleted. */
export interface FileChange {
  path: string;
  change: 'new' | 'changed' | 'deleted' | 'more';
  size: number;
  type: string;
}

/** What a cell left behind: names with their objects' types, and files. */
export interface Changes {
  created: Record<string, string>;
  rebound: Record<string, string>;
  deleted: string[];
  files: FileChange[];
}

export interface TurnStarted {
  type: 'TurnStarted';
  turn: string;
  thread: string;
  prompt: string;
  filled: string;
  context: string;
  language: string;
  kernel: string;
}

export interface ReplyDelta {
  type: 'ReplyDelta';
  text: string;
}

export interface ReplyFinished {
  type: 'ReplyFinished';
  text: string;
  usage: Usage;
  model: string;
  seconds: number;
  cut: boolean;
}

export interface ReplyDiscarded {
  type: 'ReplyDiscarded';
  reason: string;
}

export interface ModelRetried {
  type: 'ModelRetried';
  attempt: number;
  reason: string;
  wait: number;
}

export interface CellProposed {
  type: 'CellProposed';
  cell: string;
  step: number;
  code: string;
  language: string;
  target: string;
  cause: Cause;
}

export interface CellDecided {
  type: 'CellDecided';
  cell: string;
  decision: Decision;
  risk: string;
  by: 'user' | 'setting';
  always: boolean;
  code: string;
  reason: string;
}

export interface CellStarted {
  type: 'CellStarted';
  cell: string;
  execution_count: number | null;
  message: string;
}

export interface CellOutput {
  type: 'CellOutput';
  cell: string;
  output: Output;
}

export interface CellFinished {
  type: 'CellFinished';
  cell: string;
  status: Status;
  changes: Changes;
  seconds: number;
  detail: string;
}

export interface TurnFinished {
  type: 'TurnFinished';
  reason: Reason;
  answer: string;
  detail: string;
  seconds: number;
}

export type Event =
  | TurnStarted
  | ReplyDelta
  | ReplyFinished
  | ReplyDiscarded
  | ModelRetried
  | CellProposed
  | CellDecided
  | CellStarted
  | CellOutput
  | CellFinished
  | TurnFinished;

type Kind = Event['type'];

/** How one field is checked, and its default; a field without a default must be there. */
interface Field {
  is: 'text' | 'flag' | 'integer' | 'number' | 'count' | 'usage' | 'changes' | 'output' | string[];
  default?: unknown;
}

const needed: Field = { is: 'text' };
const text: Field = { is: 'text', default: '' };
const flag: Field = { is: 'flag', default: false };
const seconds: Field = { is: 'number', default: 0 };

const FIELDS: {
  [K in Kind]: { [F in Exclude<keyof Extract<Event, { type: K }>, 'type'>]: Field };
} = {
  TurnStarted: {
    turn: needed,
    thread: needed,
    prompt: needed,
    filled: needed,
    context: text,
    language: { is: 'text', default: 'python' },
    kernel: text
  },
  ReplyDelta: { text: needed },
  ReplyFinished: {
    text: needed,
    usage: { is: 'usage', default: { input: 0, output: 0, cached: 0 } },
    model: text,
    seconds,
    cut: flag
  },
  ReplyDiscarded: { reason: needed },
  ModelRetried: { attempt: { is: 'integer' }, reason: needed, wait: { is: 'number' } },
  CellProposed: {
    cell: needed,
    step: { is: 'integer' },
    code: needed,
    language: { is: 'text', default: 'python' },
    target: text,
    cause: { is: ['reply', 'install', 'again'], default: 'reply' }
  },
  CellDecided: {
    cell: needed,
    decision: { is: ['run', 'edited', 'rejected'] },
    risk: text,
    by: { is: ['user', 'setting'], default: 'user' },
    always: flag,
    code: text,
    reason: text
  },
  CellStarted: { cell: needed, execution_count: { is: 'count', default: null }, message: text },
  CellOutput: { cell: needed, output: { is: 'output' } },
  CellFinished: {
    cell: needed,
    status: { is: ['ok', 'error', 'stopped', 'timeout', 'died'] },
    changes: { is: 'changes', default: { created: {}, rebound: {}, deleted: [], files: [] } },
    seconds,
    detail: text
  },
  TurnFinished: {
    reason: { is: ['answered', 'stopped', 'limit', 'failed'] },
    answer: text,
    detail: text,
    seconds
  }
};

/** An event, a record or a message is not what it must be. */
export class Malformed extends Error {}

/** Give an event as a JSON object: its fields and `type`, defaults left out. */
export function encode(event: Event): JsonObject {
  const row: JsonObject = { type: event.type };
  for (const [name, field] of Object.entries(FIELDS[event.type]) as [string, Field][]) {
    const value = (event as unknown as Record<string, Json>)[name];
    if (JSON.stringify(value) === JSON.stringify(field.default)) {
      continue;
    }
    row[name] = value;
    if (field.is === 'changes' && !(event as CellFinished).changes.files.length) {
      const { files: _, ...rest } = value as JsonObject;
      row[name] = rest;
    }
  }
  return row;
}

/**
 * Read what `encode` wrote. Unknown fields are passed over, so that a newer record can be read.
 *
 * @throws Malformed: not an object, an unknown type, or a field missing or of the wrong type.
 */
export function decode(row: unknown): Event {
  if (!isObject(row)) {
    throw new Malformed('an event is a JSON object');
  }
  const kind = row.type;
  if (typeof kind !== 'string' || !Object.hasOwn(FIELDS, kind)) {
    throw new Malformed(`unknown event type ${JSON.stringify(kind)}`);
  }
  const event: Record<string, unknown> = { type: kind };
  for (const [name, field] of Object.entries(FIELDS[kind as Kind]) as [string, Field][]) {
    if (Object.hasOwn(row, name)) {
      event[name] = checked(`${kind}.${name}`, field.is, row[name]);
    } else if ('default' in field) {
      event[name] = structuredClone(field.default);
    } else {
      throw new Malformed(`${kind} lacks '${name}'`);
    }
  }
  return event as unknown as Event;
}

function checked(name: string, is: Field['is'], value: unknown): unknown {
  if (is === 'usage') {
    return usageFrom(name, value);
  }
  if (is === 'changes') {
    return changesFrom(name, value);
  }
  const good =
    (is === 'text' && typeof value === 'string') ||
    (is === 'flag' && typeof value === 'boolean') ||
    (is === 'integer' && Number.isInteger(value)) ||
    (is === 'number' && Number.isFinite(value)) ||
    (is === 'count' && (value === null || Number.isInteger(value))) ||
    (is === 'output' && isOutput(value)) ||
    (Array.isArray(is) && typeof value === 'string' && is.includes(value));
  return good ? value : unusable(name, value);
}

function unusable(name: string, value: unknown): never {
  throw new Malformed(`${name} is unusable: ${String(JSON.stringify(value)).slice(0, 80)}`);
}

function usageFrom(name: string, value: unknown): Usage {
  const usage: Usage = { input: 0, output: 0, cached: 0 };
  for (const [key, count] of Object.entries(isObject(value) ? value : unusable(name, value))) {
    if (key in usage) {
      const good = Number.isSafeInteger(count) && (count as number) >= 0;
      usage[key as keyof Usage] = good ? (count as number) : unusable(`${name}.${key}`, count);
    }
  }
  return usage;
}

function changesFrom(name: string, value: unknown): Changes {
  const row = isObject(value) ? value : unusable(name, value);
  const { created = {}, rebound = {}, deleted = [], files = [] } = row;
  return {
    created: isTexts(created) ? created : unusable(`${name}.created`, created),
    rebound: isTexts(rebound) ? rebound : unusable(`${name}.rebound`, rebound),
    deleted: isLines(deleted) ? deleted : unusable(`${name}.deleted`, deleted),
    files: Array.isArray(files)
      ? files.map(file => fileFrom(`${name}.files`, file))
      : unusable(`${name}.files`, files)
  };
}

function fileFrom(name: string, value: unknown): FileChange {
  const row = isObject(value) ? value : unusable(name, value);
  const { path, change, size = 0, type = '' } = row;
  const good =
    typeof path === 'string' &&
    ['new', 'changed', 'deleted', 'more'].includes(change as string) &&
    Number.isInteger(size) &&
    (size as number) >= 0 &&
    typeof type === 'string';
  return good ? ({ path, change, size, type } as FileChange) : unusable(name, value);
}

/** Say whether a JSON value is an output that can be shown: its type is known, its parts are what they must be. */
export function isOutput(value: unknown): value is Output {
  if (!isObject(value)) {
    return false;
  }
  switch (value.output_type) {
    case 'stream':
      return (
        typeof value.name === 'string' && (typeof value.text === 'string' || isLines(value.text))
      );
    case 'error':
      return isLines(value.traceback ?? []);
    case 'display_data':
    case 'execute_result':
    case 'update_display_data':
      return [value.data, value.metadata, value.transient].every(part => isObject(part ?? {}));
    case 'clear_output':
      return true;
    default:
      return false;
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isLines(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(each => typeof each === 'string');
}

function isTexts(value: unknown): value is Record<string, string> {
  return isObject(value) && isLines(Object.values(value));
}

/** The kernel asks: is there a client? `cell` is the prompt cell's id, where the frontend told it. */
export interface Opening {
  turn: string;
  owner: string;
  cell: string;
  version: number;
}

/** Read the opening of a comm; null if it is none. */
export function openingIn(data: unknown): Opening | null {
  if (!isObject(data)) {
    return null;
  }
  const { turn, owner, cell = '', version } = data;
  const good = [turn, owner, cell].every(each => typeof each === 'string');
  return good && typeof version === 'number' ? ({ turn, owner, cell, version } as Opening) : null;
}

/** What a kernel tells a client, its `owner` left out. */
export type FromKernel =
  | { type: 'begin'; replace: string[] }
  | { type: 'kept' }
  | { type: 'event'; seq: number; event: Event }
  | { type: 'ask'; cell: string; risk: string };

/**
 * Read a message of the kernel; null if it is for another client, or of a type that is not known.
 *
 * @throws Malformed: it is of a known type, but broken.
 */
export function messageIn(data: unknown, owner: string): FromKernel | null {
  if (!isObject(data) || data.owner !== owner) {
    return null;
  }
  switch (data.type) {
    case 'begin': {
      const replace = data.replace ?? [];
      return { type: 'begin', replace: isLines(replace) ? replace : unusable('replace', replace) };
    }
    case 'kept':
      return { type: 'kept' };
    case 'event': {
      const seq = Number.isInteger(data.seq) ? (data.seq as number) : unusable('seq', data.seq);
      return { type: 'event', seq, event: decode(data.event) };
    }
    case 'ask':
      return { type: 'ask', cell: String(data.cell ?? ''), risk: String(data.risk ?? '') };
    default:
      return null;
  }
}

/** A decision as a client tells it; what is left out has its default. */
export type Decided = Pick<CellDecided, 'cell' | 'decision'> & Partial<Omit<CellDecided, 'type'>>;

/** What a client tells the kernel. */
export type ToKernel =
  | { type: 'hello'; client: string; document: string; cell: string; cells: JsonObject[] }
  | { type: 'ack'; cell: string }
  | ({ type: 'decide' } & Decided)
  | { type: 'stop' };
