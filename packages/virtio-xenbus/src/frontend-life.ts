import { XenbusState } from '@virtlab/abi/xenbus';
import type { AioContext, BottomHalf } from '@virtlab/aio';
import { TransportError } from '@virtlab/virtio';
import { type XenbusDevice, stateName } from '@virtlab/xenbus';
import type { FrontendResources } from './frontend-resources.ts';
import { Lifeline } from './lifeline.ts';
import type { OtherendStates } from './otherend-states.ts';

export interface FrontendLifeOptions {
  readonly device: XenbusDevice;
  readonly states: OtherendStates;
  readonly resources: FrontendResources;
  readonly aio: AioContext;
  /** Of the driver's operations. */
  readonly lifeline: Lifeline;
  readonly timeoutMs: number;
  /** The connection is over: no doorbell rings any more. */
  readonly onOver: () => void;
}

/**
 * How a driver's connection ends, whichever profile it speaks. When the backend goes to Closing, or anywhere else that is not
 * Connected, operations end at once; this end answers Closing, waits until the backend has let go, and goes to Closed, all
 * by itself: the driver is told (`onGone`) when its memory is its own again.
 */
export class FrontendLife {
  readonly #options: FrontendLifeOptions;
  readonly #lifeline: Lifeline;
  /** Bounds the wait for a backend that goes. */
  readonly #farewell: Lifeline;
  readonly #goneTeller: BottomHalf;
  #goneHandler: ((reason: string) => void) | undefined;
  /** Set until `onGone` was told. */
  #goneReason: string | undefined;
  #announcing: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: FrontendLifeOptions) {
    this.#options = options;
    this.#lifeline = options.lifeline;
    this.#farewell = new Lifeline(options.aio, options.timeoutMs);
    this.#goneTeller = options.aio.createBottomHalf(() => this.#tellGone());
  }

  /** Begins to listen to the backend's state. */
  start(): void {
    this.#options.states.onState((state) => this.#onState(state));
  }

  get isOver(): boolean {
    return this.#lifeline.end !== undefined;
  }

  requireAlive(): void {
    if (this.#lifeline.end !== undefined) throw this.#lifeline.end;
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#goneHandler = handler;
    if (this.#goneReason !== undefined && handler !== undefined) this.#goneTeller.schedule();
  }

  /** The backend does not keep to the protocol: told to the operator, and this device is over. */
  breakOff(message: string): TransportError {
    const error = new TransportError('EPROTO', message);
    this.#gone(error, new TransportError('ENODEV', message), message);
    return error;
  }

  /** `goodbye` resets the device while it is there. Idempotent; never rejects for what the device does. */
  close(goodbye: () => Promise<void>): Promise<void> {
    this.#closing ??= this.#close(goodbye);
    return this.#closing;
  }

  /** Listens no more, and ends what runs; the resources are for somebody else to release. */
  async abandon(): Promise<void> {
    this.#options.states.onState(undefined);
    const closed = new TransportError('ENODEV', 'The transport is closed');
    this.#lifeline.cut(closed);
    this.#farewell.cut(closed);
    this.#goneTeller[Symbol.dispose]();
    this.#options.onOver();
    await this.#announcing;
  }

  async #close(goodbye: () => Promise<void>): Promise<void> {
    this.#goneHandler = undefined;
    try {
      if (!this.isOver) await goodbye();
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
    }
    await this.abandon();
    await this.#options.resources.release();
  }

  #onState(state: XenbusState): void {
    if (state === XenbusState.Connected) return;
    const reason = state === XenbusState.Unknown ? 'removed' : `the backend went to ${stateName(state)}`;
    this.#gone(new TransportError('ENODEV', `${this.#options.device.otherend}: ${reason}`));
  }

  /** Operations end at once; `onGone` says more, that memory is not touched any more, and so comes later. */
  #gone(error: TransportError, later: TransportError = error, fault?: string): void {
    if (this.isOver) return;
    this.#lifeline.cut(error, later);
    this.#options.onOver();
    this.#announcing = this.#announce(error.message, fault);
  }

  async #announce(reason: string, fault: string | undefined): Promise<void> {
    const { resources } = this.#options;
    if (fault !== undefined) await resources.reportFault(fault);
    await resources.answerClosing(this.#farewell);
    if (this.#closing !== undefined) return;
    this.#goneReason = reason;
    this.#goneTeller.schedule();
  }

  #tellGone(): void {
    const reason = this.#goneReason;
    const handler = this.#goneHandler;
    if (reason === undefined || handler === undefined) return;
    this.#goneReason = undefined;
    handler(reason);
  }
}
