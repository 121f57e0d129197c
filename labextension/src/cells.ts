/** The cells of a document, by their ids: the user moves and deletes them while a turn runs. */

import { type Cell, CodeCell } from '@jupyterlab/cells';
import type { NotebookPanel } from '@jupyterlab/notebook';

import { isObject, type JsonObject } from './protocol';
import { KEY } from './record';

/** A cell to insert. */
export interface NewCell {
  id: string;
  cell_type: 'code' | 'markdown';
  source: string;
  metadata: JsonObject;
}

export class Cells {
  constructor(private readonly _panel: NotebookPanel) {}

  get count(): number {
    return this._panel.content.widgets.length;
  }

  /** Give a cell's place, or -1. */
  index(id: string): number {
    return this._panel.content.widgets.findIndex(cell => cell.model.id === id);
  }

  find(id: string): Cell | undefined {
    return this._panel.content.widgets[this.index(id)];
  }

  findCode(id: string): CodeCell | undefined {
    const cell = this.find(id);
    return cell instanceof CodeCell ? cell : undefined;
  }

  /** Bring a cell into view. */
  reveal(id: string): void {
    void this._panel.content.scrollToItem(this.index(id), 'smart');
  }

  /** Insert a cell at a place. */
  insert(place: number, cell: NewCell): void {
    this._panel.content.model?.sharedModel.insertCell(place, { ...cell });
    const made = this._panel.content.widgets[place];
    if (cell.cell_type === 'markdown' && made) {
      (made as Cell & { rendered: boolean }).rendered = true;
    }
  }

  /** Remove a cell, if it is there. */
  remove(id: string): void {
    const place = this.index(id);
    if (place >= 0) {
      this._panel.content.model?.sharedModel.deleteCell(place);
    }
  }

  /** Give our metadata of a cell, empty if it has none. */
  mark(id: string): JsonObject {
    const mark: unknown = this.find(id)?.model.getMetadata(KEY);
    return isObject(mark) ? mark : {};
  }

  /** Change our metadata of a cell. */
  setMark(id: string, mark: JsonObject): void {
    this.find(id)?.model.setMetadata(KEY, mark);
  }

  /** Give the cells that turns have marked, and the prompt cell, as nbformat writes them. */
  marked(prompt: string): JsonObject[] {
    const cells = this._panel.content.widgets.map(cell => cell.model);
    return cells
      .filter(model => model.id === prompt || isObject(model.getMetadata(KEY)))
      .map(model => model.toJSON() as unknown as JsonObject);
  }
}
