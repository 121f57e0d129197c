/** A turn as the views show it: the fold of its events into prompt, steps, cells and outcome; the same as `turns.py`. */

import { fold } from './outputs';
import type {
  Cause,
  CellDecided,
  Changes,
  Event,
  Output,
  Reason,
  ReplyFinished,
  Status,
  Usage
} from './protocol';
import { narration, ReplyParser } from './replies';

/** Statuses of a cell behind which nothing of its reply was reached. */
export const BROKEN: readonly string[] = ['rejected', 'error', 'stopped', 'timeout', 'died'];

/** One cell of a turn. */
export class Cell {
  status: 'proposed' | 'running' | 'rejected' | Status = 'proposed';
  decided: CellDecided | null = null;
  executionCount: number | null = null;
  published: Output[] = [];
  changes: Changes = { created: {}, rebound: {}, deleted: [], files: [] };
  seconds = 0;
  detail = '';

  constructor(
    readonly id: string,
    readonly step: number,
    public code: string,
    readonly cause: Cause
  ) {}

  /** The outputs as a notebook shows them. */
  get outputs(): Output[] {
    return fold(this.published);
  }
}

/** One reply and the cells that it led to. */
export class Step {
  cells: Cell[] = [];
  /** Sources of the reply's own cells, as they were proposed. */
  codes: string[] = [];
  answer = false;

  constructor(
    readonly text = '',
    private readonly _language = 'python'
  ) {}

  /** The reply's text before each cell, and last that behind them; the answer is told elsewhere. */
  get said(): string[] {
    return this.answer ? [''] : narration(this.text, this._language, this.codes);
  }

  /** All that the model said beside its code. */
  get narration(): string {
    return this.said.filter(Boolean).join('\n\n');
  }

  /** Text and cells in their order; what follows a cell that failed was never reached. */
  get parts(): (string | Cell)[] {
    const blocks: Cell[][] = []; // a block's own cell, and the install that it led to
    for (const cell of this.cells) {
      if (cell.cause === 'reply' || !blocks.length) {
        blocks.push([]);
      }
      blocks[blocks.length - 1].push(cell);
    }
    const parts: (string | Cell)[] = [];
    this.said.forEach((text, place) => {
      const before = blocks.slice(0, place);
      const broken = before.some(group => BROKEN.includes(group[group.length - 1].status));
      parts.push(place <= blocks.length && !broken ? text : '');
      parts.push(...(blocks[place] ?? []));
    });
    return parts.filter(part => part !== '');
  }
}

/** A turn so far. `parser` holds the reply that is streaming; `notice` what the user should know meanwhile. */
export class Turn {
  id = '';
  thread = '';
  prompt = '';
  steps: Step[] = [];
  usage: Usage = { input: 0, output: 0, cached: 0 };
  model = '';
  retries = 0;
  notice = '';
  reason: Reason | null = null;
  answer = '';
  detail = '';
  seconds = 0;
  parser: ReplyParser | null = null;
  language = 'python';
  kernel = '';

  /** All cells, in order. */
  get cells(): Cell[] {
    return this.steps.flatMap(step => step.cells);
  }

  /** Find a cell by its id. */
  cell(id: string): Cell | undefined {
    return this.cells.findLast(cell => cell.id === id);
  }

  /** Fold one more event in. */
  apply(event: Event): void {
    switch (event.type) {
      case 'TurnStarted':
        [this.id, this.thread, this.prompt] = [event.turn, event.thread, event.prompt];
        [this.language, this.kernel] = [event.language, event.kernel];
        break;
      case 'ReplyDelta':
        this.notice = '';
        this.parser ??= new ReplyParser(this.language);
        this.parser.feed(event.text);
        break;
      case 'ReplyFinished':
        this._replied(event);
        break;
      case 'ReplyDiscarded':
        this.parser = null;
        this.notice = `A reply broke off and was discarded. ${event.reason}`;
        break;
      case 'ModelRetried':
        this.retries += 1;
        this.notice = `${event.reason} Asking again in ${event.wait} s (retry ${event.attempt}).`;
        break;
      case 'TurnFinished':
        [this.parser, this.notice, this.reason] = [null, '', event.reason];
        [this.answer, this.detail, this.seconds] = [event.answer, event.detail, event.seconds];
        if (event.answer && this.steps.length) {
          this.steps[this.steps.length - 1].answer = true;
        }
        break;
      default:
        this._celled(event);
    }
  }

  private _replied(event: ReplyFinished): void {
    this.steps.push(new Step(event.text, this.language));
    this.usage = {
      input: this.usage.input + event.usage.input,
      output: this.usage.output + event.usage.output,
      cached: this.usage.cached + event.usage.cached
    };
    this.model = event.model || this.model;
    [this.parser, this.notice] = [null, ''];
  }

  private _celled(event: Extract<Event, { cell: string }>): void {
    if (event.type === 'CellProposed') {
      if (!this.steps.length) {
        this.steps.push(new Step());
      }
      const step = this.steps[this.steps.length - 1];
      step.cells.push(new Cell(event.cell, event.step, event.code, event.cause));
      if (event.cause === 'reply') {
        step.codes.push(event.code);
      }
      return;
    }
    const cell = this.cell(event.cell);
    if (!cell) {
      return;
    }
    switch (event.type) {
      case 'CellDecided':
        cell.decided = event;
        cell.code = event.code || cell.code;
        cell.status = event.decision === 'rejected' ? 'rejected' : cell.status;
        break;
      case 'CellStarted':
        [cell.status, cell.executionCount] = ['running', event.execution_count];
        break;
      case 'CellOutput':
        cell.published.push(event.output);
        break;
      case 'CellFinished':
        [cell.status, cell.changes] = [event.status, event.changes];
        [cell.seconds, cell.detail] = [event.seconds, event.detail];
    }
  }
}

/** Fold a turn's events. */
export function turnFrom(events: Iterable<Event>): Turn {
  const turn = new Turn();
  for (const event of events) {
    turn.apply(event);
  }
  return turn;
}
