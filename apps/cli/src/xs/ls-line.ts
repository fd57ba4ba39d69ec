import { formatPermissions } from './permissions.ts';
import { escapeValue } from './values.ts';
import type { WalkedNode } from './walk.ts';

/** How `xenstore-ls` lays out a line (tools/xenstore/xenstore_client.c, do_ls). */
export interface LsLayout {
  /** Columns after which a value is cut; below zero: never, and nothing is padded. */
  readonly width: number;
  /** Column that the permissions of short lines are moved to. */
  readonly permissionsColumn: number;
  /** Whole paths in place of indented names. */
  readonly isFlat: boolean;
  readonly permissions: boolean;
}

const NEVER_CUT = 2 ** 30;
const NARROW_WIDTH = 80;
const PERMISSIONS_COLUMN = 60;
/** Columns that stay free of a terminal's. */
const MARGIN = 2;
const CUT_SIZE: number = ' = "..."'.length;

/** `terminalColumns` is undefined where the output goes to something else than a terminal. */
export function lsLayout(
  isFlat: boolean,
  permissions: boolean,
  terminalColumns: number | undefined,
): LsLayout {
  const width = isFlat ? NEVER_CUT : NARROW_WIDTH;
  return {
    width: terminalColumns === undefined ? width : terminalColumns - MARGIN,
    permissionsColumn: isFlat ? 0 : PERMISSIONS_COLUMN,
    isFlat,
    permissions,
  };
}

/** One node, with its line end. A value counts with the bytes it has, not with the characters it is shown as. */
export function lsLine(node: WalkedNode, layout: LsLayout): string {
  const { width } = layout;
  const indent = ' '.repeat(node.depth);
  const head = layout.isFlat ? node.path : indent + prefix(node.name, width - CUT_SIZE - node.depth);
  const column = layout.isFlat ? 0 : head.length;
  let line = head;
  if (node.value === undefined) line += ':\n';
  else if (width >= 0 && width < column + node.value.length + CUT_SIZE) {
    line += ` = "${prefix(escapeValue(node.value), width - CUT_SIZE - column)}\\..."`;
  } else {
    const value = ` = "${escapeValue(node.value)}"`;
    line += value;
    if (layout.permissions) line += ` ${dots(column + value.length + 1, layout)}`;
  }
  if (layout.permissions && node.permissions !== undefined) line += formatPermissions(node.permissions);
  return `${line}\n`;
}

/** `printf` takes a negative precision for none. */
function prefix(text: string, size: number): string {
  return size < 0 ? text : text.slice(0, size);
}

/** Dots on odd columns, up to where the permissions begin. */
function dots(column: number, { permissionsColumn, width }: LsLayout): string {
  let text = '';
  for (let at = column; at < Math.min(permissionsColumn, width); at++) text += (at & 1) === 0 ? ' ' : '.';
  return text;
}
