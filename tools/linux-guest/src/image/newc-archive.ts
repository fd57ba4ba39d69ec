/** One member of an archive. Numbers of `mode` are permissions only, the kind gives the type. */
export type ArchiveMember =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly data: Uint8Array; readonly mode: number }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'character-device';
      readonly path: string;
      readonly major: number;
      readonly minor: number;
    };

// The format "newc" (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).
const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const ALIGNMENT = 4;
// Types of files (inode(7)).
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

/**
 * An archive that the kernel unpacks as its initial root file system. Paths are relative to the root, parents come before
 * what they contain. The same members make the same bytes: every file belongs to root and was changed in 1970.
 */
export function newcArchive(members: readonly ArchiveMember[]): Uint8Array {
  const parts = members.flatMap((member, index) => memberParts(member, index + 1));
  return Buffer.concat([
    ...parts,
    ...entryParts({ inode: 0, path: TRAILER, mode: 0, data: new Uint8Array() }),
  ]);
}

interface Entry {
  readonly inode: number;
  readonly path: string;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly device?: readonly [major: number, minor: number];
}

function memberParts(member: ArchiveMember, inode: number): Uint8Array[] {
  const { path } = member;
  const data = new Uint8Array();
  switch (member.kind) {
    case 'directory':
      return entryParts({ inode, path, mode: S_IFDIR | 0o755, data });
    case 'file':
      return entryParts({ inode, path, mode: S_IFREG | member.mode, data: member.data });
    case 'link':
      return entryParts({ inode, path, mode: S_IFLNK | 0o777, data: Buffer.from(member.target) });
    case 'character-device':
      return entryParts({ inode, path, mode: S_IFCHR | 0o600, data, device: [member.major, member.minor] });
  }
}

function entryParts(entry: Entry): Uint8Array[] {
  const name = Buffer.from(`${entry.path}\0`);
  const [major, minor] = entry.device ?? [0, 0];
  // inode, mode, uid, gid, link count, time, size, device, device of a device file, size of the name, checksum
  const fields = [entry.inode, entry.mode, 0, 0, 1, 0, entry.data.length, 0, 0, major, minor, name.length, 0];
  const header = Buffer.from(MAGIC + fields.map((field) => field.toString(16).padStart(8, '0')).join(''));
  return [header, name, padding(header.length + name.length), entry.data, padding(entry.data.length)];
}

function padding(size: number): Uint8Array {
  return new Uint8Array(-size & (ALIGNMENT - 1));
}
