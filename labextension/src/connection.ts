/** Answers the turns of one kernel, for the document that asked. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel, KernelMessage } from '@jupyterlab/services';

import { Cells } from './cells';
import { LabNotebook } from './notebook';
import { messageIn, openingIn, TARGET, type ToKernel, VERSION } from './protocol';

const ENDED = 'the kernel ended in mid-turn';
const GONE: readonly string[] = ['restarting', 'autorestarting', 'terminating', 'dead'];

export class Connection {
  private _comm: Kernel.IComm | null = null;
  private _notebook: LabNotebook | null = null;

  /**
   * @param _kernel - the connection of this page to a kernel
   * @param _panel - gives the notebook that it belongs to; there may be two views of it, and either may be closed
   */
  constructor(
    private readonly _kernel: Kernel.IKernelConnection,
    private readonly _panel: () => NotebookPanel | undefined
  ) {
    _kernel.registerCommTarget(TARGET, (comm, message) => this._opened(comm, message));
    _kernel.statusChanged.connect((_, status) => {
      if (GONE.includes(status)) {
        this._closed();
      }
    });
    _kernel.disposed.connect(() => this._closed());
  }

  /** Whether a turn runs. */
  get active(): boolean {
    return this._comm !== null;
  }

  /** Stop the turn that runs: its cell, or the model. */
  stop(): void {
    this._send({ type: 'stop' });
  }

  private _opened(comm: Kernel.IComm, message: KernelMessage.ICommOpenMsg): void {
    const opening = openingIn(message.content.data);
    if (opening?.owner !== this._kernel.clientId) {
      return; // another page's turn
    }
    const panel = this._panel();
    const cells = panel && new Cells(panel);
    if (!cells || opening.version !== VERSION || cells.index(opening.cell) < 0) {
      comm.close();
      return;
    }
    this._comm = comm;
    const notebook = new LabNotebook(cells, this._kernel, opening.cell, data => this._send(data));
    this._notebook = notebook;
    comm.onMsg = received => {
      const data = messageIn(received.content.data, this._kernel.clientId);
      if (data && !panel.isDisposed) {
        notebook.take(data);
      }
    };
    comm.onClose = () => this._closed();
    this._send({
      type: 'hello',
      client: 'JupyterLab',
      document: panel.context.path,
      cell: opening.cell,
      cells: cells.marked(opening.cell)
    });
  }

  private _closed(): void {
    const notebook = this._notebook;
    [this._comm, this._notebook] = [null, null];
    notebook?.close(ENDED);
  }

  private _send(data: ToKernel): void {
    if (this._comm && !this._comm.isDisposed) {
      this._comm.send(data as Parameters<Kernel.IComm['send']>[0]);
    }
  }
}
