import { describe, expect, it } from 'vitest';
import { ChildList } from './tree-node.ts';

describe('ChildList', () => {
  it('keeps names in the order in which they were added, with the size of a DIRECTORY reply', () => {
    const list = ChildList.of(['b', 'a', 'long']);
    expect(list.encoded()).toBe('b\0a\0long\0');
    expect(list.size).toBe(list.encoded().length);
    expect(list.without('a').encoded()).toBe('b\0long\0');
    expect(list.without('none').count).toBe(2);
  });

  it('is the same empty list again when the last name goes', () => {
    expect(ChildList.of(['a']).without('a')).toBe(ChildList.EMPTY);
    expect(ChildList.of(['a', 'a']).without('a').without('a')).toBe(ChildList.EMPTY);
  });

  it('add_child: a name that is there already is there twice, and the first goes first', () => {
    const list = ChildList.of(['a', 'b', 'a', 'c']);
    expect(list.encoded()).toBe('a\0b\0a\0c\0');
    expect(list).toMatchObject({ count: 4, size: 8 });
    const rest = list.without('a');
    expect(rest.encoded()).toBe('b\0a\0c\0');
    expect(rest.has('a')).toBe(true);
    expect(rest.without('a').has('a')).toBe(false);
    expect(rest).toMatchObject({ count: 2, size: 4 });
  });

  it('changes a copy when it is pinned, with names that are there twice too', () => {
    for (const names of [
      ['a', 'b'],
      ['a', 'b', 'a'],
    ]) {
      const list = ChildList.of(names);
      const before = list.encoded();
      list.pin();
      expect(list.with('c').without('a').has('c')).toBe(true);
      expect(list.encoded()).toBe(before);
      expect([...list.names()]).toEqual(names);
    }
  });
});
