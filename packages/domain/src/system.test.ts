import { createLocalSystem } from './testing/local-system.ts';
import { describe, expect, it, vi } from 'vitest';
import { onShutdownRequest } from './toolstack.ts';

describe('domain 0 and guests in one thread', () => {
  it('a guest reaches xenstored over the ring that its builder granted', async () => {
    const system = await createLocalSystem();
    const { store, guest } = await system.addGuest('u', 'pv');
    expect(await store.readText('name')).toBe('u');
    await store.write('data/x', 'y'.repeat(2000));
    expect(
      await system.services.xenstored.store.readText(`/local/domain/${guest.domain}/data/x`),
    ).toHaveLength(2000);
    await expect(store.write('/local/domain/0/x', 'y')).rejects.toMatchObject({ code: 'EACCES' });
    expect(await system.close()).toEqual([]);
  });

  it('two guests signal each other through an event channel that they agree on in xenstore', async () => {
    const system = await createLocalSystem();
    const [a, b] = [await system.addGuest('a', 'pv'), await system.addGuest('b', 'pv')];
    const port = await a.domain.events.allocUnbound(b.domain.id);
    const events: string[] = [];
    a.domain.events.onEvent(port, () => events.push('a'));
    const remote = await b.domain.events.bindInterdomain(a.domain.id, port);
    b.domain.events.onEvent(remote, () => events.push('b'));
    await vi.waitFor(() => expect(events).toEqual(['b'])); // the lost-edge cover of bind_interdomain
    b.domain.events.send(remote);
    await vi.waitFor(() => expect(events).toEqual(['b', 'a']));
    a.domain.events.send(port);
    await vi.waitFor(() => expect(events).toEqual(['b', 'a', 'b']));
    await b.domain.events.close(remote);
    expect(await a.domain.events.status(port)).toEqual({ kind: 'unbound', vcpu: 0, remote: b.domain.id });
    await a.domain.events.close(port);
    expect(await system.close()).toEqual([]);
  });

  it('a guest that is asked to power off goes by itself; one that does not is destroyed', async () => {
    const system = await createLocalSystem();
    const polite = await system.addGuest('polite', 'pv');
    const deaf = await system.addGuest('deaf', 'pv');
    await onShutdownRequest(polite.store, polite.domain.id, () => void polite.domain.shutdown('poweroff'));
    expect(await system.services.toolstack.shutdownGuest(polite.guest, 5000)).toBe(true);
    expect(await system.services.toolstack.shutdownGuest(deaf.guest, 20)).toBe(false);
    expect(system.ended).toEqual(['1 poweroff: It ended', '2 poweroff: Destroyed by domain 0']);
    expect(await system.services.xenstored.store.directory('/local/domain')).toEqual([]);
    expect(await system.close()).toEqual([]);
  });

  it('@releaseDomain fires and the nodes of a dead guest go, whoever else is alive', async () => {
    const system = await createLocalSystem();
    const [a, b] = [await system.addGuest('a', 'pv'), await system.addGuest('b', 'pv')];
    await a.store.write('data/mine', '1');
    const released: string[] = [];
    await system.services.xenstored.store.watch('@releaseDomain', ({ path }) => released.push(path));
    released.length = 0;
    system.machine.hypervisor.destroyDomain(a.domain.id, 'crash', 'killed');
    await vi.waitFor(() => expect(released.length).toBeGreaterThan(0));
    expect(await b.store.readText('name')).toBe('b');
    await system.services.toolstack.destroyGuest(a.guest);
    expect(await system.services.xenstored.store.directory('/local/domain')).toEqual([String(b.domain.id)]);
    expect(await system.close()).toEqual([]);
  });
});
