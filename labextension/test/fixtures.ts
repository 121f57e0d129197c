import { readFileSync } from 'node:fs';

/** Read one of the files that both sides' tests read. */
export function fixture<T>(name: string): T {
  const url = new URL(`../../tests/fixtures/${name}`, import.meta.url);
  return JSON.parse(readFileSync(url, 'utf-8')) as T;
}
