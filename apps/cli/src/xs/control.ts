import type { Command } from 'commander';
import { type XenstoreClient, XenstoreError } from '@virtlab/xenstore/node/client';
import { EXIT_CONTROL_FAILED, EXIT_FAILED } from '../exit-codes.ts';
import { type StoreFlags, XsFailure, storeCommand, withStore } from './session.ts';
import { jsonDocument } from './values.ts';

/** `virtlab xs control`: what xenstore-control(8) sends, without Xen's wrapper around it. */
export function controlCommand(): Command {
  return storeCommand('control')
    .argument('<command>', 'what the daemon understands; "help" lists it')
    .argument('[parameter...]')
    .passThroughOptions()
    .action(control);
}

function control(name: string, parameters: readonly string[], flags: StoreFlags): Promise<void> {
  return withStore(flags, async (store) => {
    try {
      const reply = await store.control(name, ...parameters);
      if (flags.json) process.stdout.write(jsonDocument({ command: name, parameters, reply }));
      else if (reply !== '') process.stdout.write(`${reply}\n`);
    } catch (error) {
      if (!(error instanceof XenstoreError)) throw error;
      throw await refusal(store, error);
    }
  });
}

/** A daemon answers EINVAL to what it does not know; then its list of commands helps. */
async function refusal(store: XenstoreClient, error: XenstoreError): Promise<XsFailure> {
  if (error.code === 'EIO') return new XsFailure(error.message, undefined, EXIT_FAILED);
  const help = error.code === 'EINVAL' ? await store.control('help').catch(() => undefined) : undefined;
  if (help === undefined) {
    return new XsFailure(
      `Error ${error.code} when trying to execute command`,
      undefined,
      EXIT_CONTROL_FAILED,
    );
  }
  return new XsFailure(
    `Command not supported. Valid commands are:\n${help.trimEnd()}`,
    undefined,
    EXIT_CONTROL_FAILED,
  );
}
