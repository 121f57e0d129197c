/**
 * Reads a reply while it streams: narration, and blocks of code that become cells; the same as `replies.py`.
 *
 * One thing cannot be known here, as there is no parser of Python: whether a block without a language runs. Such a block
 * is `doubtful`, until the kernel proposes a cell with its code.
 */

const FENCE = /^([ \t]*)(`{3,}|~{3,})[ \t]*([^\n]*)$/;
const PYTHON = ['python', 'py', 'python3', 'ipython'];
const SHELL: Record<string, string> = {
  bash: 'bash',
  sh: 'sh',
  shell: 'bash',
  pwsh: 'script pwsh -NoProfile -Command -'
};
const ALIASES: Record<string, string[]> = {
  julia: ['jl'],
  bash: ['sh', 'shell'],
  javascript: ['js'],
  typescript: ['ts'],
  'c++': ['cpp']
};
const FILENAME = /^#\s*filename:\s*(\S.*?)\s*$/;
const STRING = /#.*|(?:'''|""")|'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?/g;

/** Text between blocks, quoted blocks included, as Markdown. */
export interface Narration {
  kind: 'narration';
  text: string;
}

/** A block of code; `closed` is false while it streams, or if it broke off. */
export interface Block {
  kind: 'block';
  language: string;
  source: string;
  closed: boolean;
  doubtful: boolean;
  /** The cell magic that runs a shell block in a Python kernel. */
  magic: string;
  /** The fence that opened it. */
  fence: string;
}

export type Part = Narration | Block;

/** Give the source of a block's cell: shell blocks and files become cell magics. */
export function codeOf(block: Block): string {
  const source = block.source.replace(/\n+$/, '');
  if (block.magic) {
    return `%%${block.magic}\n${source}`;
  }
  const [first, ...rest] = source.split('\n');
  const named = block.language === 'python' ? FILENAME.exec(first) : null;
  return named ? `%%writefile ${inside(named[1])}\n${rest.join('\n')}` : source;
}

/** Keep a file's name within the working directory: no root, no parent, no option, no quote. */
function inside(name: string): string {
  const parts = name
    .split(/[\\/]+/)
    .map(part => part.replace(/[^\p{L}\p{N}_. +-]/gu, '_').replace(/^-+/, ''));
  const clean = parts.filter(part => part.replace(/[. ]/g, '')).join('/') || 'unnamed.txt';
  return clean.includes(' ') ? `"${clean}"` : clean;
}

/**
 * Give a reply's text before each block that runs, and last the text behind them all.
 *
 * @param language - of the kernel that the code is for
 * @param codes - sources of the cells that the reply has led to; they settle the doubtful blocks
 */
export function narration(reply: string, language: string, codes: readonly string[]): string[] {
  const parser = new ReplyParser(language);
  parser.feed(reply);
  const texts = [''];
  let raw = '';
  const close = () => {
    texts[texts.length - 1] = `${texts.at(-1)}\n${raw}`.trim();
    raw = '';
  };
  for (const part of parser.close()) {
    if (part.kind === 'narration') {
      raw += part.text;
    } else if (part.doubtful && !codes.some(code => code.endsWith(codeOf(part)))) {
      raw += `${part.fence}\n${part.source}${part.closed ? `${part.fence}\n` : ''}`;
    } else {
      close();
      if (part.closed && part.source.trim()) {
        texts.push('');
      }
    }
  }
  close();
  return texts;
}

/** Parses a reply piece by piece. `parts` is readable at any time; `close` gives the final ones. */
export class ReplyParser {
  /** Narration and blocks in their order. */
  parts: Part[] = [];

  private readonly _labels: string[];
  private _text = '';
  private _line = '';
  private _fence = ''; // the closing fence that is waited for; "</execute>" for a tag
  private _indent = '';
  private _runs = false;
  private _quote = ''; // the triple quote that is open in a Python block
  private _begun = false; // something but white space has come
  private _thinking = false;
  private _mistaken = false; // a fence was taken for part of a string

  constructor(
    private readonly _language = 'python',
    private readonly _strict = false // the first fence ends a block, whatever its strings say
  ) {
    this._labels = _language === 'python' ? PYTHON : [_language, ...(ALIASES[_language] ?? [])];
  }

  /** Take the next piece, of any size. */
  feed(delta: string): void {
    this._text += delta;
    const lines = (this._line + delta).split('\n');
    this._line = lines.pop() ?? '';
    for (const line of lines) {
      this._take(`${line.replace(/\r$/, '')}\n`);
    }
  }

  /** The line that has not ended yet. */
  get unfinished(): string {
    return this._line;
  }

  /** Take what is left as the last line, and give the whole reply. */
  close(): Part[] {
    if (this._line) {
      const line = this._line.replace(/\r$/, '');
      this._line = '';
      this._take(line);
    }
    if (this._mistaken && this.parts.some(part => part.kind === 'block' && !part.closed)) {
      // The string never ended, so that the fence inside it did end the block: the code has a syntax error.
      const parser = new ReplyParser(this._language, true);
      parser.feed(this._text);
      this.parts = parser.close();
    }
    this._fence = '';
    return this.parts;
  }

  private _take(line: string): void {
    this._read(line);
    this._begun = this._begun || line.trim() !== '';
  }

  private _read(line: string): void {
    const opening = FENCE.exec(line.replace(/\n$/, ''));
    if (this._fence) {
      this._insideFence(line);
    } else if (this._thinking || (!this._begun && line.trimStart().startsWith('<think>'))) {
      this._thinking = !line.includes('</think>');
      this._narrate(line);
    } else if (opening) {
      this._open(line, opening[1], opening[2], opening[3]);
    } else if (line.trimStart().startsWith('<execute>')) {
      this._begin('</execute>', '', { language: this._language });
      const rest = line.trimStart().slice('<execute>'.length);
      if (rest.trim()) {
        this._insideFence(rest);
      }
    } else {
      this._narrate(line);
    }
  }

  private _open(line: string, indent: string, fence: string, info: string): void {
    if (fence[0] === '`' && info.includes('`')) {
      this._narrate(line);
      return;
    }
    const first = info
      .trim()
      .replace(/^[{.]+/, '')
      .split(/\s+/)[0];
    const label = first.replace(/}+$/, '').toLowerCase();
    const magic = this._language === 'python' && Object.hasOwn(SHELL, label) ? SHELL[label] : '';
    if (magic || this._labels.includes(label)) {
      this._begin(fence, indent, { language: magic ? label : this._language, magic });
    } else if (label || this._language !== 'python') {
      [this._fence, this._indent, this._runs] = [fence, indent, false];
      this._narrate(line);
    } else {
      this._begin(fence, indent, { language: 'python', doubtful: true });
    }
  }

  private _begin(
    fence: string,
    indent: string,
    block: { language: string } & Partial<Block>
  ): void {
    [this._fence, this._indent, this._quote, this._runs] = [fence, indent, '', true];
    const empty = { source: '', closed: false, doubtful: false, magic: '', fence };
    this.parts.push({ kind: 'block', ...empty, ...block });
  }

  private _insideFence(line: string): void {
    const [body, ends] = this._ending(line);
    if (ends && (!this._quote || this._strict)) {
      if (body) {
        this._keep(body);
      }
      this._end(line);
      return;
    }
    this._mistaken = this._mistaken || ends;
    this._keep(line);
  }

  /** Give the part of a line before the closing fence, and whether the fence is there. */
  private _ending(line: string): [string, boolean] {
    const stripped = line.trim();
    if (this._fence === '</execute>') {
      const ends = stripped.endsWith(this._fence);
      return [ends ? line.trimEnd().slice(0, -this._fence.length) : '', ends];
    }
    const ends =
      stripped.length >= this._fence.length && [...stripped].every(char => char === this._fence[0]);
    return ['', ends];
  }

  private _keep(line: string): void {
    line = line.startsWith(this._indent)
      ? line.slice(this._indent.length)
      : line.replace(/^[ \t]+/, '');
    const part = this.parts.at(-1);
    if (!this._runs || part?.kind !== 'block') {
      this._narrate(line);
      return;
    }
    part.source += line;
    if (part.language === 'python') {
      this._quote = openQuote(line, this._quote);
    }
  }

  private _end(line: string): void {
    const part = this.parts.at(-1);
    if (!this._runs) {
      this._narrate(line);
    } else if (part?.kind === 'block') {
      part.closed = true;
    }
    this._fence = '';
  }

  private _narrate(text: string): void {
    const part = this.parts.at(-1);
    if (part?.kind === 'narration') {
      part.text += text;
    } else {
      this.parts.push({ kind: 'narration', text });
    }
  }
}

/** Give the triple quote that is open after a line of Python, if one was open before it (`quote`) or not. */
function openQuote(line: string, quote: string): string {
  let position = 0;
  while (position < line.length) {
    if (quote) {
      const end = new RegExp(`(?:\\\\.|(?!${quote}).)*`, 'sy');
      end.lastIndex = position;
      position += end.exec(line)?.[0].length ?? 0;
      if (!line.startsWith(quote, position)) {
        return quote;
      }
      position += 3;
      quote = '';
    }
    STRING.lastIndex = position;
    const token = STRING.exec(line);
    if (!token) {
      return '';
    }
    position = STRING.lastIndex;
    quote = token[0] === "'''" || token[0] === '"""' ? token[0] : '';
  }
  return quote;
}
