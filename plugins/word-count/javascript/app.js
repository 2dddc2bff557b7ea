// Counts words, as `../src/lib.rs` says: the same words, the same state, the same output. A job may go from one to the other.
//
// This is what a task in JavaScript is without an SDK: an export named `processor`, and imports by the names of `wit/task.wit`.
// `make guests` builds it with componentize-qjs. QuickJS has neither TextEncoder nor TextDecoder, and goes through bytes
// slowly: text is kept as a string of its bytes, one character each, which regular expressions go through quickly.

import { config } from 'pelton:task/context@0.1.0';
import { emitMany } from 'pelton:task/output@0.1.0';
import { getMany, writeMany } from 'pelton:task/state@0.1.0';

const KEY_BYTES_MAX = 1_024;
const DATA_BYTES_MAX = 1_000_000;
// Most keys of one host call, so that no answer passes its limit.
const KEYS_MAX = 4_096;
// Most arguments of one function call.
const ARGUMENTS_MAX = 4_096;

const WORD = /[0-9a-z\x80-\xff]+/g;
// A character beyond ASCII in UTF-8; or, without the group, what one U+FFFD stands for: the beginning of one, or any byte.
const CHARACTER = new RegExp(
  '([\\xc2-\\xdf][\\x80-\\xbf]|\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}' +
    '|\\xed[\\x80-\\x9f][\\x80-\\xbf]|\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}' +
    '|\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})' +
    '|\\xe0[\\xa0-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]|\\xed[\\x80-\\x9f]|\\xf0[\\x90-\\xbf][\\x80-\\xbf]?' +
    '|[\\xf1-\\xf3][\\x80-\\xbf]{1,2}|\\xf4[\\x80-\\x8f][\\x80-\\xbf]?|[\\x80-\\xff]',
  'g',
);
const REPLACEMENT = '\xef\xbf\xbd';

export const processor = {
  init() {},

  process(records) {
    const name = config('output');
    try {
      const texts = records.map((record) => words(record.data));
      const added = new Map();
      for (const text of texts) for (const word of text) count(added, word);
      const before = read([...added.keys()]);
      if (name !== undefined && name !== null) emitMany(name, messages(records, texts, before));
      write([...added].map(([word, more]) => [word, before.get(word) + more]));
    } catch (refused) {
      throw failure(refused);
    }
  },
};

// The words of a record's data.
function words(data) {
  let text = '';
  for (let at = 0; at < data.length; at += ARGUMENTS_MAX) {
    text += String.fromCharCode(...data.subarray(at, at + ARGUMENTS_MAX));
  }
  text = text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
  text = text.replace(CHARACTER, (bytes, character) => character ?? REPLACEMENT);
  return (text.match(WORD) ?? []).map(cut);
}

// The part of a word that can be a key: it ends where a character ends.
function cut(word) {
  let end = Math.min(word.length, KEY_BYTES_MAX);
  while (end < word.length && (word.charCodeAt(end) & 0b1100_0000) === 0b1000_0000) end -= 1;
  return word.slice(0, end);
}

function count(counts, word) {
  counts.set(word, (counts.get(word) ?? 0n) + 1n);
}

// The count of each word before this call.
function read(all) {
  const counts = new Map();
  for (const some of slices(all)) {
    const values = getMany(some.map(bytesOf));
    some.forEach((word, at) => counts.set(word, countOf(word, values[at])));
  }
  return counts;
}

function countOf(word, value) {
  if (value === undefined || value === null) return 0n;
  if (value.length !== 8) throw { kind: 'fatal', message: `the count of ${word} has ${value.length} bytes, not 8` };
  return new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0);
}

function write(counts) {
  for (const some of slices(counts)) {
    writeMany(some.map(([word, count]) => ({ key: bytesOf(word), value: valueOf(count) })));
  }
}

function valueOf(count) {
  const value = new DataView(new ArrayBuffer(8));
  value.setBigUint64(0, count);
  return new Uint8Array(value.buffer);
}

function* slices(items) {
  for (let at = 0; at < items.length; at += KEYS_MAX) yield items.slice(at, at + KEYS_MAX);
}

// For each record its words with their counts after it.
function messages(records, texts, before) {
  const counts = new Map(before);
  const all = [];
  records.forEach(({ partitionKey }, at) => {
    for (const word of texts[at]) count(counts, word);
    let lines = '';
    const tell = () => all.push({ partitionKey, data: bytesOf(lines) });
    for (const word of [...new Set(texts[at])].sort()) {
      const line = `${word}=${counts.get(word)}\n`;
      if (lines.length + line.length > DATA_BYTES_MAX) {
        tell();
        lines = '';
      }
      lines += line;
    }
    if (lines !== '') tell();
  });
  return all;
}

function bytesOf(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
}

// What the host is to do about what it refused.
function failure(refused) {
  const { kind, message, tag, val } = refused?.payload ?? refused;
  if (tag === 'store') return { kind: 'retry', message: val };
  if (tag === 'unknown-output') return { kind: 'fatal', message: `the job has no output ${val}` };
  if (tag !== undefined) return { kind: 'poison', message: `the host refused a call: ${tag} ${val}` };
  return { kind: kind ?? 'retry', message: String(message) };
}
