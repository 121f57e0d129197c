/** The bar below a proposed cell that asks whether it may run. */

import type { Cell } from '@jupyterlab/cells';
import type { PanelLayout } from '@lumino/widgets';
import { Widget } from '@lumino/widgets';

/** What the user says. */
export interface Word {
  run: boolean;
  always: boolean;
  reason: string;
}

/** Ask below a cell; the answer comes once. A cell that the user deletes is rejected. */
export class Question extends Widget {
  private readonly _reason = document.createElement('input');

  /**
   * @param _cell - the proposed cell
   * @param risk - what its code may do; empty if nothing was found in it
   * @param _answer - called with the user's word
   */
  constructor(
    private readonly _cell: Cell,
    risk: string,
    private readonly _answer: (word: Word) => void
  ) {
    super();
    this.addClass('codeact-question');
    const text = document.createElement('span');
    text.textContent = risk ? `This cell would ${risk}.` : 'May this cell run?';
    this._reason.placeholder = 'why not, for the model';
    this._reason.setAttribute('aria-label', 'Reason of the rejection');
    this._reason.addEventListener('keydown', event => {
      event.stopPropagation(); // the notebook's shortcuts are not meant
      if (event.key === 'Enter') {
        this._say(false);
      }
    });
    const always = risk ? [this._button('Always', () => this._say(true, true))] : [];
    this.node.append(
      text,
      this._button('Run', () => this._say(true)),
      ...always,
      this._button('Reject', () => this._say(false)),
      this._reason
    );
    (_cell.layout as PanelLayout).addWidget(this);
    _cell.disposed.connect(this._deleted, this);
  }

  override dispose(): void {
    this._cell.disposed.disconnect(this._deleted, this);
    super.dispose();
  }

  private _button(label: string, act: () => void): HTMLButtonElement {
    const button = document.createElement('button');
    button.textContent = label;
    button.addEventListener('click', act);
    return button;
  }

  private _deleted(): void {
    this._reason.value = 'the user deleted the cell';
    this._say(false);
  }

  private _say(run: boolean, always = false): void {
    if (!this.isDisposed) {
      const reason = run ? '' : this._reason.value.trim();
      this.dispose();
      this._answer({ run, always, reason });
    }
  }
}
