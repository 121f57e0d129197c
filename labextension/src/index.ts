/** The plugin: a connection for the kernel of every notebook, and the command that stops a turn. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel } from '@jupyterlab/services';

import { Connection } from './connection';

const STOP = 'codeact-magic:stop';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'codeact-magic:plugin',
  description: 'The cells that %%agent writes, as real cells of the document.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    palette: ICommandPalette | null
  ): void => {
    const connections = new WeakMap<Kernel.IKernelConnection, Connection>();
    const kernelOf = (panel: NotebookPanel | null) => panel?.sessionContext.session?.kernel ?? null;

    const connect = (kernel: Kernel.IKernelConnection | null) => {
      if (kernel && !connections.has(kernel)) {
        const panel = () => tracker.find(each => kernelOf(each) === kernel && !each.isDisposed);
        connections.set(kernel, new Connection(kernel, panel));
      }
    };
    tracker.widgetAdded.connect((_, panel) => {
      panel.sessionContext.kernelChanged.connect((_, { newValue }) => connect(newValue));
      connect(kernelOf(panel));
    });

    const current = () => {
      const kernel = kernelOf(tracker.currentWidget);
      return kernel ? connections.get(kernel) : undefined;
    };
    app.commands.addCommand(STOP, {
      label: "Stop the Agent's Turn",
      isEnabled: () => current()?.active ?? false,
      execute: () => current()?.stop()
    });
    palette?.addItem({ command: STOP, category: 'CodeAct' });
  }
};

export default plugin;
