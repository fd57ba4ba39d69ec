import * as fc from 'fast-check';

/** Values that no well-behaved end writes: texts, bytes, and numbers that are almost right. */
export const garbage: fc.Arbitrary<string | Uint8Array> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.uint8Array({ maxLength: 40 }),
  fc.integer().map(String),
  fc.bigInt({ min: -(1n << 66n), max: 1n << 66n }).map((value) => `0x${value.toString(16)}`),
  fc.nat(5000).map(String),
  fc.tuple(fc.nat(), fc.nat(300)).map(([serial, status]) => `${serial} ${status}`),
  fc.constantFrom(
    '',
    '0',
    '1',
    '-1',
    ' 1',
    '1 ',
    '1\n',
    '1\0',
    '1e3',
    '0x',
    '00',
    '4294967295',
    '4294967296',
    '99999999999',
  ),
  fc.constantFrom(
    '0x1ffffffffffffffff',
    '0x8000000000000000',
    '0xffffffffffffffff',
    '/',
    '../..',
    '1 1 1',
    '\uFFFF',
  ),
);
