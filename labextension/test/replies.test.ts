import { describe, expect, it } from 'vitest';

import { codeOf, narration, ReplyParser } from '../src/replies';
import { fixture } from './fixtures';

interface Case {
  name: string;
  language: string;
  reply: string;
  codes: string[];
  narration: string[];
}

const cases = fixture<Case[]>('replies.json');

function parsed(pieces: Iterable<string>, language: string, codes: string[]): string[] {
  const parser = new ReplyParser(language);
  for (const piece of pieces) {
    parser.feed(piece);
  }
  return parser
    .close()
    .flatMap(part => (part.kind === 'block' && part.closed && part.source.trim() ? [part] : []))
    .filter(block => !block.doubtful || codes.includes(codeOf(block)))
    .map(codeOf);
}

describe.each(cases)('$name', ({ reply, language, codes, narration: said }) => {
  it('has its blocks', () => {
    expect(parsed([reply], language, codes)).toEqual(codes);
  });

  it('has them however it is cut into pieces', () => {
    expect(parsed(reply, language, codes)).toEqual(codes);
  });

  it('has its text around them', () => {
    expect(narration(reply, language, codes)).toEqual(said);
  });
});
