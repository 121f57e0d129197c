/** Shows a turn in the document: its cells with their outputs, its text, and its record in the prompt cell. */

import { KernelMessage, type Kernel } from '@jupyterlab/services';

import { Cells } from './cells';
import { draftsOf, textId, Typist } from './drafts';
import { rejectedMarkdown } from './markdown';
import type {
  CellDecided,
  CellFinished,
  CellProposed,
  CellStarted,
  Decided,
  Event,
  FromKernel,
  JsonObject,
  Output,
  ToKernel
} from './protocol';
import { Question } from './question';
import { digest, recordFrom, type Role } from './record';
import { Turn, type Step } from './turns';

const CODE = 50; // milliseconds between two updates of code that streams
const TEXT = 150; // of text, which is rendered anew each time

/**
 * One turn in a document.
 *
 * The user works in the same document meanwhile: cells are found by their ids each time, what a turn makes goes below
 * what it made last, and what the user has deleted is not missed.
 */
export class LabNotebook {
  private readonly _typists: Record<'code' | 'markdown', Typist>;
  private _turn = new Turn();
  private _events: Event[] = [];
  private _made: string[] = []; // cells and texts of the turn, in order
  private _drafts = new Set<string>(); // cells that are typed, but not proposed
  private _proposed: CellProposed | null = null;
  private _started = new Set<string>();
  private _seen = new Map<string, Output[]>(); // outputs of cells when they had ended
  private _open: Step | null = null; // the step that may still have text behind its last cell
  private _question: Question | null = null;
  private _replaced: string[] = []; // the old turn's cells, until a reply has come
  private _asked: KernelMessage.IInputRequestMsg | null = null; // for input that no cell has waited for yet

  /**
   * @param _cells - the document's
   * @param _kernel - what runs the turn
   * @param _prompt - id of the prompt cell
   * @param _send - tells the kernel
   */
  constructor(
    private readonly _cells: Cells,
    private readonly _kernel: Kernel.IKernelConnection,
    private readonly _prompt: string,
    private readonly _send: (message: ToKernel) => void
  ) {
    this._typists = { code: new Typist(_cells, CODE), markdown: new Typist(_cells, TEXT) };
    _kernel.unhandledMessage.connect(this._unhandled, this);
  }

  /** Take a message of the kernel. */
  take(message: FromKernel): void {
    switch (message.type) {
      case 'begin':
        this._replaced = message.replace;
        break;
      case 'event':
        this._apply(message.event);
        break;
      case 'ask':
        this._ask(message.cell, message.risk);
        break;
      case 'kept':
        break;
    }
  }

  /** Let go of the kernel. A turn that has not ended gets an end, so that its record says so. */
  close(detail: string): void {
    this._kernel.unhandledMessage.disconnect(this._unhandled, this);
    if (this._turn.id && !this._turn.reason) {
      for (const cell of this._turn.cells) {
        this._rest(cell.id);
      }
      this._apply({ type: 'TurnFinished', reason: 'failed', answer: '', detail, seconds: 0 });
    }
  }

  private _apply(event: Event): void {
    if (event.type.startsWith('Reply')) {
      this._closeStep();
    }
    this._turn.apply(event);
    if (event.type !== 'ReplyDelta') {
      this._events.push(event);
    }
    switch (event.type) {
      case 'ReplyDelta':
        this._type();
        break;
      case 'ReplyDiscarded':
        this._dropDrafts();
        break;
      case 'ReplyFinished':
        this._replace();
        this._open = this._turn.steps.at(-1) ?? null;
        break;
      case 'CellProposed':
        this._propose(event);
        break;
      case 'CellDecided':
        this._decided(event);
        break;
      case 'CellStarted':
        this._start(event);
        break;
      case 'CellFinished':
        this._finish(event);
        break;
      case 'TurnFinished':
        this._end(event.answer);
    }
  }

  /** Type the reply that streams into cells of its own, each with the id that it will have. */
  private _type(): void {
    for (const { id, type, source } of draftsOf(this._turn)) {
      if (!this._drafts.has(id)) {
        this._drafts.add(id);
        const role = type === 'code' ? 'cell' : 'narration';
        this._cells.insert(this._place([...this._made, ...this._drafts]), {
          id,
          cell_type: type,
          source: '',
          metadata: { codeact: this._metadata(role) }
        });
      }
      this._typists[type].type(id, source);
    }
  }

  private _propose(event: CellProposed): void {
    this._stopTyping();
    this._proposed = event;
    const step = this._turn.steps.at(-1);
    const block = step?.codes.length ?? 0;
    if (step && event.cause === 'reply') {
      this._insertText(event.step, block, step.said[block - 1], 'narration');
    }
    const mark = { step: event.step, sha256: digest(event.code) };
    this._insert(event.cell, 'code', event.code, 'cell', mark);
    this._send({ type: 'ack', cell: event.cell });
  }

  /** Ask whether the proposed cell may run; a user who changes its code and lets it run has edited it. */
  private _ask(id: string, risk: string): void {
    const cell = this._cells.findCode(id);
    const decide = (said: Omit<Decided, 'cell'>) =>
      this._send({ type: 'decide', cell: id, ...said });
    if (!cell) {
      decide({ decision: 'rejected', reason: 'the user deleted the cell' });
      return;
    }
    this._cells.reveal(id);
    this._question?.dispose();
    this._question = new Question(cell, risk, ({ run, always, reason }) => {
      const code = run ? cell.model.sharedModel.getSource() : '';
      if (!run) {
        decide({ decision: 'rejected', reason });
      } else if (code === this._proposed?.code) {
        decide({ decision: 'run', always });
      } else {
        decide({ decision: 'edited', always, code });
      }
    });
  }

  /** Put a rejected cell's code in a Markdown cell, so that it does not run; change an edited one. */
  private _decided(event: CellDecided): void {
    this._question?.dispose();
    if (event.decision === 'rejected') {
      const code = this._turn.cell(event.cell)?.code ?? '';
      const note = rejectedMarkdown(code, this._turn.language, event);
      const mark = { sha256: digest(note) };
      this._insert(`${event.cell}-rejected`, 'markdown', note, 'narration', mark);
      this._cells.remove(event.cell);
      this._dropDrafts();
      this._keepRecord();
    } else if (event.decision === 'edited') {
      this._cells.find(event.cell)?.model.sharedModel.setSource(event.code);
      this._mark(event.cell, { sha256: digest(event.code) });
    }
  }

  /**
   * Let the cell's outputs land in it: its area waits for the replies to the kernel's own message id.
   *
   * The kernel ran no request of ours, so a harmless one is sent under that id; this registers a future of the kernel
   * connection, with all that hangs on it: streams, displays and their updates, widgets, input.
   */
  private _start(event: CellStarted): void {
    this._started.add(event.cell);
    const cell = this._cells.findCode(event.cell);
    if (!cell) {
      return;
    }
    cell.model.clearExecution();
    cell.outputHidden = false;
    cell.model.executionState = 'running';
    cell.model.trusted = true; // as every cell that is run in this page; widgets need it
    const request = KernelMessage.createMessage<KernelMessage.IInfoRequestMsg>({
      msgType: 'kernel_info_request',
      channel: 'shell',
      username: this._kernel.username,
      session: this._kernel.clientId,
      msgId: event.message,
      content: {}
    });
    // On the control channel, which answers while a cell runs; for that the types know no kernel_info_request.
    const control = { ...request, channel: 'control' } as unknown as KernelMessage.IControlMessage;
    const future = this._kernel.sendControlMessage(
      control as KernelMessage.IControlMessage<KernelMessage.ControlMessageType>,
      true,
      false
    );
    cell.outputArea.future = future as unknown as typeof cell.outputArea.future;
    if (this._asked && parentOf(this._asked) === event.message) {
      this._kernel.hasPendingInput = true;
      void future.onStdin(this._asked);
      this._asked = null;
    }
  }

  /** Keep a request for input that comes before its cell has started: they take different ways out of the kernel. */
  private _unhandled(_: unknown, message: KernelMessage.IMessage): void {
    if (KernelMessage.isInputRequestMsg(message)) {
      this._asked = message;
    }
  }

  private _finish(event: CellFinished): void {
    const cell = this._cells.findCode(event.cell);
    if (cell) {
      this._rest(event.cell);
      cell.model.executionCount = this._turn.cell(event.cell)?.executionCount ?? null;
      this._seen.set(event.cell, cell.model.outputs.toJSON() as unknown as Output[]);
      this._mark(event.cell, { status: event.status, seconds: event.seconds });
      if (event.status !== 'ok') {
        cell.model.setMetadata('tags', ['raises-exception']); // the next run goes past it, as this one did
      }
    }
    if (event.status !== 'ok') {
      this._dropDrafts();
    }
    this._keepRecord();
  }

  private _end(answer: string): void {
    this._stopTyping();
    this._question?.dispose();
    this._closeStep();
    if (answer) {
      this._insertText(this._turn.steps.length, 1, answer, 'answer');
    }
    this._dropDrafts();
    if (this._proposed && !this._started.has(this._proposed.cell)) {
      this._cells.remove(this._proposed.cell); // the turn ended on its question: nobody has allowed it
    }
    this._keepRecord();
  }

  /** Show what the model said behind its last block, once it is known that no cell follows. */
  private _closeStep(): void {
    const step = this._open;
    const last = step?.cells.at(-1);
    this._open = null;
    if (!step || !last) {
      return;
    }
    const said = step.said;
    if (last.status === 'ok' && last.cause !== 'install' && said.length === step.codes.length + 1) {
      this._insertText(last.step, said.length, said[said.length - 1], 'narration');
    }
    this._dropDrafts();
  }

  private _insertText(step: number, block: number, text: string, role: Role): void {
    if (text) {
      const id = textId(this._turn, step, block);
      this._insert(id, 'markdown', text, role, { sha256: digest(text) });
    }
  }

  /** Insert a cell below the turn's last, or settle the draft of it. */
  private _insert(
    id: string,
    type: 'code' | 'markdown',
    source: string,
    role: Role,
    mark: JsonObject
  ): void {
    const metadata = { ...this._metadata(role), ...mark };
    const draft = this._drafts.delete(id) ? this._cells.find(id) : undefined;
    if (!draft) {
      const cell = { id, cell_type: type, source, metadata: { codeact: metadata } };
      this._cells.insert(this._place(this._made), cell);
    } else {
      if (draft.model.sharedModel.getSource() !== source) {
        draft.model.sharedModel.setSource(source);
        draft.update();
      }
      this._cells.setMark(id, metadata);
    }
    this._made.push(id);
  }

  private _metadata(role: Role): JsonObject {
    return { role, turn: this._turn.id, thread: this._turn.thread };
  }

  /** Give the place behind the last of `cells` that is still there and below the prompt, else behind the prompt. */
  private _place(cells: string[]): number {
    const prompt = this._cells.index(this._prompt);
    const places = cells.map(id => this._cells.index(id));
    const last = places.findLast(place => place > prompt) ?? prompt;
    return last < 0 ? this._cells.count : last + 1;
  }

  private _stopTyping(): void {
    this._typists.code.stop();
    this._typists.markdown.stop();
  }

  private _dropDrafts(): void {
    this._stopTyping();
    for (const id of this._drafts) {
      this._cells.remove(id);
    }
    this._drafts.clear();
  }

  /** Remove the old turn's cells, now that a reply has come: a turn that fails before leaves them as they are. */
  private _replace(): void {
    const prompt = this._cells.index(this._prompt);
    for (const id of this._replaced) {
      if (this._cells.index(id) > prompt) {
        this._cells.remove(id);
      }
    }
    this._replaced = [];
  }

  private _rest(id: string): void {
    const cell = this._cells.findCode(id);
    if (cell) {
      cell.model.executionState = 'idle';
    }
  }

  private _mark(id: string, mark: JsonObject): void {
    this._cells.setMark(id, { ...this._cells.mark(id), ...mark });
  }

  private _keepRecord(): void {
    if (!this._replaced.length) {
      const record = recordFrom(this._withChangedOutputs());
      this._cells.setMark(this._prompt, { role: 'prompt', record });
    }
  }

  /** Give the turn's events; outputs stand in the record only where the document no longer shows them. */
  private *_withChangedOutputs(): Generator<Event> {
    for (const event of this._events) {
      const seen = event.type === 'CellFinished' ? this._seen.get(event.cell) : undefined;
      if (event.type === 'CellFinished' && seen) {
        const now = this._cells.findCode(event.cell)?.model.outputs.toJSON();
        if (JSON.stringify(now) !== JSON.stringify(seen)) {
          yield* seen.map(output => ({ type: 'CellOutput' as const, cell: event.cell, output }));
        }
      }
      yield event;
    }
  }
}

function parentOf(message: KernelMessage.IMessage): string {
  return 'msg_id' in message.parent_header ? message.parent_header.msg_id : '';
}
