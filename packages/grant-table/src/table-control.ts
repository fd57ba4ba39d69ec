import {
  GNTST_general_error,
  GNTST_okay,
  GNTTAB_DEFAULT_MAX_FRAMES,
  GNTTAB_DEFAULT_MAX_MAPTRACK_FRAMES,
  GNTTAB_NR_RESERVED_ENTRIES,
} from '@virtlab/abi/grant-table';
import type { GrantTableView, GrantVersion } from './contract.ts';
import {
  FRAMES_MAX_WORD,
  MAPTRACK_FRAMES_MAX_WORD,
  STATE_WORD,
  VERSION_CHANGING,
  VERSION_MAX_WORD,
  entriesIn,
  nextState,
  stateFrames,
  stateVersion,
  statusFramesOf,
  tableState,
} from './control-words.ts';
import { GTF_held } from './entries.ts';
import { changeVersion, isHeldEntry, versionObstacle } from './version-change.ts';

/** What the toolstack allows a domain (Xen: `max_grant_frames`, `max_maptrack_frames`, `max_grant_version` of domctl.h). */
export interface GrantLimits {
  /** Frames of the table at start; 1 in Xen. */
  readonly frameCount: number;
  readonly frameCountMax: number;
  readonly maptrackFrameCountMax: number;
  readonly versionMax: GrantVersion;
}

/** 2^24 mappings: more than all domains of a machine can have grants. */
const MAPTRACK_FRAMES_LIMIT = 65_536;

/** Errno names that `GNTTABOP_set_version` fails with. */
export type SetVersionCode = 'EINVAL' | 'ENOSYS' | 'EBUSY' | 'EAGAIN' | 'ERANGE';

/** The table is made as large as it may be: unlike a kernel's, a domain's code here grants without waiting. */
export function defaultGrantLimits(frameCountMax: number = GNTTAB_DEFAULT_MAX_FRAMES): GrantLimits {
  return {
    frameCount: frameCountMax,
    frameCountMax,
    maptrackFrameCountMax: GNTTAB_DEFAULT_MAX_MAPTRACK_FRAMES,
    versionMax: 2,
  };
}

/**
 * The hypervisor's hand on one table: the operations that change or tell its size and version, with Xen's checks in their
 * order (common/grant_table.c). The permission checks are the hypervisor's. Single-threaded; mappers may run meanwhile.
 */
export class GrantTableControl {
  readonly #view: GrantTableView;
  readonly #limits: GrantLimits;
  readonly #words: Int32Array;
  readonly #state: number;

  /** Makes an empty version 1 table. Throws `RangeError` for limits that the view has no room for. */
  constructor(view: GrantTableView, limits: GrantLimits) {
    const { frameCount, frameCountMax, maptrackFrameCountMax, versionMax } = limits;
    if (view.control === undefined) throw new TypeError('A table without control words cannot be controlled');
    if (!(frameCount >= 1 && frameCount <= frameCountMax && frameCountMax <= view.frameCount)) {
      throw new RangeError(`${frameCount} of ${frameCountMax} frames do not fit ${view.frameCount} frames`);
    }
    if (!(maptrackFrameCountMax >= 1 && maptrackFrameCountMax <= MAPTRACK_FRAMES_LIMIT)) {
      throw new RangeError(`${maptrackFrameCountMax} maptrack frames are not 1 to ${MAPTRACK_FRAMES_LIMIT}`);
    }
    if (versionMax !== 1 && versionMax !== 2) throw new RangeError(`Version ${String(versionMax)} is none`);
    this.#view = view;
    this.#limits = limits;
    this.#words = view.table.i32;
    const at = view.control.words / 4;
    this.#state = at + STATE_WORD;
    this.#words[at + FRAMES_MAX_WORD] = frameCountMax;
    this.#words[at + MAPTRACK_FRAMES_MAX_WORD] = maptrackFrameCountMax;
    this.#words[at + VERSION_MAX_WORD] = versionMax;
    Atomics.store(this.#words, this.#state, tableState(1, frameCount, 0));
  }

  get version(): GrantVersion {
    return stateVersion(this.#load()) as GrantVersion;
  }

  get frameCount(): number {
    return stateFrames(this.#load());
  }

  get frameCountMax(): number {
    return this.#limits.frameCountMax;
  }

  get statusFrameCount(): number {
    return this.version === 2 ? statusFramesOf(this.frameCount) : 0;
  }

  /** `GNTTABOP_setup_table`: at least so many frames. `GNTST_general_error` beyond the limit. A table never shrinks. */
  setupTable(frameCount: number): number {
    if (frameCount > this.#limits.frameCountMax) return GNTST_general_error;
    const state = this.#load();
    if (frameCount > stateFrames(state)) {
      const grown = state + tableState(0, frameCount - stateFrames(state), 0);
      Atomics.store(this.#words, this.#state, grown);
    }
    return GNTST_okay;
  }

  /** `GNTTABOP_get_status_frames`: `GNTST_general_error` for more than there are; version 1 has none. */
  getStatusFrames(frameCount: number): number {
    return frameCount > this.statusFrameCount ? GNTST_general_error : GNTST_okay;
  }

  /**
   * `GNTTABOP_set_version`. All but the reserved entries are lost. Undefined, or why not: EINVAL for no version, ENOSYS
   * for one that the domain may not have, EBUSY while an entry that is not reserved is in use, EAGAIN while an operation on a
   * reserved entry is under way that version 1 does not know, ERANGE when a reserved entry does not fit version 1.
   */
  setVersion(version: number): SetVersionCode | undefined {
    if (version !== 1 && version !== 2) return 'EINVAL';
    if (version > this.#limits.versionMax) return 'ENOSYS';
    const before = this.#load();
    if (stateVersion(before) === version) return undefined;
    // Whoever pins from here on sees that the version changes, or is seen.
    Atomics.store(this.#words, this.#state, nextState(before, VERSION_CHANGING));
    const obstacle = this.#isInUse(before) ? 'EBUSY' : versionObstacle(this.#view, version);
    if (obstacle !== undefined) {
      Atomics.store(this.#words, this.#state, before);
      return obstacle;
    }
    changeVersion(this.#view, version, () => {
      Atomics.store(this.#words, this.#state, nextState(before, version));
    });
    return undefined;
  }

  #isInUse(state: number): boolean {
    const isV2 = stateVersion(state) === 2;
    const end = entriesIn(state, this.#view);
    for (let ref = GNTTAB_NR_RESERVED_ENTRIES; ref < end; ref++) {
      if (isHeldEntry(this.#view, isV2, ref, GTF_held)) return true;
    }
    return false;
  }

  #load(): number {
    return Atomics.load(this.#words, this.#state);
  }
}
