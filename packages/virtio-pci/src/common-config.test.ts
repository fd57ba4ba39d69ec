import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_PCI_COMMON_CFG,
  VIRTIO_PCI_COMMON_CFG_SIZE_1_2,
} from '@virtlab/abi/virtio-pci';
import type { AccessWidth } from './pci-function.ts';
import { FunctionFixture, MODERN_BAR } from './testing/function-fixture.ts';
import { RecordingModel } from './testing/recording-model.ts';

type CommonField = keyof typeof VIRTIO_PCI_COMMON_CFG.fields;

/** §4.1.4.3, right-hand column: what the driver may do to each field. */
const readWrite: readonly CommonField[] = [
  'device_feature_select',
  'driver_feature_select',
  'driver_feature',
  'config_msix_vector',
  'device_status',
  'queue_select',
  'queue_size',
  'queue_msix_vector',
  'queue_desc',
  'queue_driver',
  'queue_device',
];
const readOnly: readonly CommonField[] = [
  'device_feature',
  'num_queues',
  'config_generation',
  'queue_notify_off',
  'queue_notif_config_data',
  'admin_queue_index',
  'admin_queue_num',
];

describe('common configuration: access rights (§4.1.4.3)', () => {
  it.each(readWrite)('§4.1.4.3 %s is read-write for the driver', (field) => {
    const fixture = new FunctionFixture();
    fixture.write(field, 1);
    expect(fixture.read(field)).toBe(1);
  });

  it.each(readOnly)('§4.1.4.3 %s is read-only for the driver', (field) => {
    const fixture = new FunctionFixture();
    const before = fixture.read(field);
    fixture.write(field, before ^ 0xff);
    expect(fixture.read(field)).toBe(before);
  });

  it('§4.1.4.3 every field of the structure has a register, and after a reset these values', () => {
    const fixture = new FunctionFixture();
    const fields = Object.keys(VIRTIO_PCI_COMMON_CFG.fields) as CommonField[];
    expect(Object.fromEntries(fields.map((field) => [field, fixture.read(field)]))).toEqual({
      device_feature_select: 0,
      device_feature: 0,
      driver_feature_select: 0,
      driver_feature: 0,
      config_msix_vector: 0xffff,
      num_queues: 2,
      device_status: 0,
      config_generation: 0,
      queue_select: 0,
      queue_size: 256,
      queue_msix_vector: 0xffff,
      queue_enable: 0,
      queue_notify_off: 0,
      queue_desc: 0,
      queue_driver: 0,
      queue_device: 0,
      queue_notif_config_data: 0,
      queue_reset: 0,
      admin_queue_index: 0,
      admin_queue_num: 0,
    });
  });

  it('§4.1.3.1 an access that is no register in offset and width reads all ones and writes nothing', () => {
    const fields = Object.keys(VIRTIO_PCI_COMMON_CFG.fields) as CommonField[];
    const { offset, width } = VIRTIO_PCI_COMMON_CFG;
    const registers = new Set(
      fields.flatMap((field) =>
        width[field] === 8
          ? [`${offset[field]}/4`, `${offset[field] + 4}/4`]
          : [`${offset[field]}/${width[field]}`],
      ),
    );
    const fixture = new FunctionFixture();
    const image = (): string =>
      [...registers]
        .map((place) => place.split('/').map(Number) as [number, AccessWidth])
        .map(([at, size]) => fixture.pciFunction.barRead(MODERN_BAR, at, size))
        .join();
    const before = image();
    for (let at = 0; at < 0x1000; at++) {
      for (const size of [1, 2, 4] as const) {
        if (registers.has(`${at}/${size}`)) continue;
        expect(fixture.pciFunction.barRead(MODERN_BAR, at, size)).toBe(2 ** (8 * size) - 1);
        fixture.pciFunction.barWrite(MODERN_BAR, at, size, 0x55);
      }
    }
    expect(image()).toBe(before);
    expect(fixture.model.statusWrites).toEqual([]);
  });
});

describe('common configuration: features and status', () => {
  it('§4.1.4.3 device_feature shows the 32 bits that device_feature_select selects, 0 beyond', () => {
    const model = new RecordingModel();
    model.deviceFeatures = 0x4444_4444_3333_3333_2222_2222_1111_1111n;
    const fixture = new FunctionFixture({ model });
    const words = [0, 1, 2, 3, 4, 0xffff_ffff].map((select) => {
      fixture.write('device_feature_select', select);
      return fixture.read('device_feature');
    });
    expect(words).toEqual([0x1111_1111, 0x2222_2222, 0x3333_3333, 0x4444_4444, 0, 0]);
  });

  it('§4.1.4.3 driver_feature changes only the selected 32 bits, and none beyond the last', () => {
    const fixture = new FunctionFixture();
    fixture.write('driver_feature_select', 1);
    fixture.write('driver_feature', 0x8000_0001);
    fixture.write('driver_feature_select', 0);
    fixture.write('driver_feature', 0xffff_ffff);
    fixture.write('driver_feature', 0x5);
    fixture.write('driver_feature_select', 9);
    fixture.write('driver_feature', 0x77);
    expect(fixture.model.driverFeatures).toBe(0x8000_0001_0000_0005n);
    expect(fixture.read('driver_feature')).toBe(0);
  });

  it('§4.1.4.3.1 a write of 0 to device_status resets selectors, vectors, sizes and addresses', () => {
    const fixture = new FunctionFixture({ vectorCount: 3 });
    fixture.write('config_msix_vector', 2);
    fixture.write('queue_select', 1);
    fixture.write('queue_size', 16);
    fixture.write('queue_msix_vector', 1);
    fixture.write('queue_desc', 0x1000);
    fixture.write('queue_desc', 0x1, 1);
    fixture.write('device_status', 0);
    expect(fixture.model.statusWrites).toEqual([0]);
    expect(fixture.read('config_msix_vector')).toBe(VIRTIO_MSI_NO_VECTOR);
    expect(fixture.read('queue_select')).toBe(0);
    fixture.write('queue_select', 1);
    expect(fixture.read('queue_size')).toBe(128);
    expect(fixture.read('queue_msix_vector')).toBe(VIRTIO_MSI_NO_VECTOR);
    expect([fixture.read('queue_desc'), fixture.read('queue_desc', 1)]).toEqual([0, 0]);
  });

  it('§4.1.4.3.2 device_status reads back what the device model says, as during a reset that takes time', () => {
    const model = new RecordingModel();
    model.writeStatus = (status) => void (model.status = status === 0 ? 0xf : status);
    const fixture = new FunctionFixture({ model });
    fixture.write('device_status', 0);
    expect(fixture.read('device_status')).toBe(0xf);
  });

  it('§4.1.4.3.1 config_generation is the low byte of the generation', () => {
    const fixture = new FunctionFixture();
    fixture.model.configGeneration = 0x102;
    expect(fixture.read('config_generation')).toBe(2);
  });
});

describe('common configuration: queues', () => {
  it('§4.1.4.3 num_queues is the number of queues and queue_size starts as the largest size', () => {
    const fixture = new FunctionFixture();
    expect(fixture.read('num_queues')).toBe(2);
    expect(fixture.read('queue_size')).toBe(256);
    fixture.write('queue_select', 1);
    expect(fixture.read('queue_size')).toBe(128);
    expect(fixture.read('queue_notify_off')).toBe(1);
  });

  it.each([2, 0xffff])(
    '§4.1.4.3.1 queue_size is 0 for the absent queue %i, and its registers do nothing',
    (queue) => {
      const fixture = new FunctionFixture();
      fixture.write('queue_select', queue);
      const values = (['queue_size', 'queue_desc', 'queue_driver', 'queue_device'] as const).map((field) => {
        fixture.write(field, 8);
        return fixture.read(field);
      });
      expect(values).toEqual([0, 0, 0, 0]);
      fixture.write('queue_msix_vector', 0);
      fixture.write('queue_enable', 1);
      expect(fixture.read('queue_enable')).toBe(0);
      expect(fixture.read('queue_msix_vector')).toBe(VIRTIO_MSI_NO_VECTOR);
      expect(fixture.model.enabled.size).toBe(0);
    },
  );

  it('§4.1.4.3.1 a queue of size 0 between others is absent', () => {
    const model = new RecordingModel();
    model.queueSizes = [4, 0, 4];
    const fixture = new FunctionFixture({ model });
    fixture.write('queue_select', 1);
    fixture.write('queue_enable', 1);
    expect([fixture.read('queue_size'), model.enabled.size]).toEqual([0, 0]);
  });

  it('§4.1.3.1 either half of a 64-bit address may be written alone and in any order', () => {
    const word = fc.integer({ min: 0, max: 0xffff_ffff });
    const field = fc.constantFrom('queue_desc', 'queue_driver', 'queue_device');
    const write = fc.record({
      field,
      half: fc.constantFrom(0, 1),
      value: word,
      queue: fc.constantFrom(0, 1),
    });
    fc.assert(
      fc.property(fc.array(write), (writes) => {
        const fixture = new FunctionFixture();
        const expected = new Map<string, bigint>();
        for (const { field: name, half, value, queue } of writes) {
          fixture.write('queue_select', queue);
          fixture.write(name, value, half);
          const before = expected.get(`${queue}${name}`) ?? 0n;
          const kept = half === 0 ? before & ~0xffff_ffffn : before & 0xffff_ffffn;
          expected.set(`${queue}${name}`, kept | (BigInt(value) << BigInt(32 * half)));
        }
        for (const queue of [0, 1]) {
          fixture.write('queue_select', queue);
          fixture.write('queue_enable', 1);
          expect(fixture.model.enabled.get(queue)).toEqual({
            size: [256, 128][queue],
            descriptorArea: expected.get(`${queue}queue_desc`) ?? 0n,
            driverArea: expected.get(`${queue}queue_driver`) ?? 0n,
            deviceArea: expected.get(`${queue}queue_device`) ?? 0n,
          });
        }
      }),
    );
  });

  it('§4.1.4.3 queue_enable of 1 hands size and addresses to the device and reads back 1', () => {
    const fixture = new FunctionFixture();
    fixture.write('queue_size', 64);
    fixture.write('queue_enable', 1);
    expect(fixture.read('queue_enable')).toBe(1);
    expect(fixture.model.enabled.get(0)?.size).toBe(64);
    fixture.write('queue_enable', 1);
    expect(fixture.pciFunction.statistics.refusedWriteCount).toBe(0);
  });

  it.each([0, 2, 3, 0xffff])('§4.1.4.3.2 queue_enable of %i is refused and changes nothing', (value) => {
    const fixture = new FunctionFixture();
    fixture.write('queue_enable', value);
    expect(fixture.read('queue_enable')).toBe(0);
    fixture.write('queue_enable', 1);
    fixture.write('queue_enable', value);
    expect(fixture.read('queue_enable')).toBe(1);
    expect(fixture.pciFunction.statistics.refusedWriteCount).toBe(2);
  });

  it('§4.1.4.3.2 queue_enable reads 0 when the device model refuses the queue', () => {
    const fixture = new FunctionFixture();
    fixture.model.acceptsQueues = false;
    fixture.write('queue_enable', 1);
    expect(fixture.read('queue_enable')).toBe(0);
    expect(fixture.pciFunction.statistics.refusedWriteCount).toBe(1);
  });

  it('§4.1.4.3.2 size and addresses of an enabled queue do not change', () => {
    const fixture = new FunctionFixture();
    fixture.write('queue_desc', 0x1000);
    fixture.write('queue_enable', 1);
    fixture.write('queue_desc', 0x2000);
    fixture.write('queue_size', 8);
    expect([fixture.read('queue_desc'), fixture.read('queue_size')]).toEqual([0x1000, 256]);
    expect(fixture.pciFunction.statistics.refusedWriteCount).toBe(2);
  });

  it('§4.1.4.3.2 queue_enable of 0, and of anything but 1, is the driver’s fault: the device needs reset', () => {
    const fixture = new FunctionFixture();
    for (const value of [0, 2, 0xffff]) fixture.write('queue_enable', value);
    expect(fixture.model.refusals).toEqual(['4.1.4.3.2', '4.1.4.3.2', '4.1.4.3.2']);
    fixture.write('queue_enable', 1);
    fixture.write('queue_enable', 1);
    expect(fixture.model.refusals).toHaveLength(3);
  });
});

describe('common configuration: queue reset (§2.6.1)', () => {
  function withEnabledQueue(): FunctionFixture {
    const fixture = new FunctionFixture({ vectorCount: 3 });
    fixture.write('queue_size', 16);
    fixture.write('queue_desc', 0x1000);
    fixture.write('queue_msix_vector', 1);
    fixture.write('queue_enable', 1);
    return fixture;
  }
  const registers = (fixture: FunctionFixture): Record<string, number> => ({
    reset: fixture.read('queue_reset'),
    enable: fixture.read('queue_enable'),
    size: fixture.read('queue_size'),
    desc: fixture.read('queue_desc'),
    vector: fixture.read('queue_msix_vector'),
  });
  const fresh = { reset: 0, enable: 0, size: 256, desc: 0, vector: VIRTIO_MSI_NO_VECTOR };

  it('§2.6.1.1 the structure is that of 1.2, and a reset at once leaves the registers of a new queue', () => {
    expect(VIRTIO_PCI_COMMON_CFG_SIZE_1_2).toBe(60);
    const fixture = withEnabledQueue();
    fixture.write('queue_reset', 1);
    expect(fixture.model.queueResets).toEqual([0]);
    expect(registers(fixture)).toEqual(fresh);
  });

  it('§2.6.1.1 queue_reset reads 1 until the reset is over, then both it and queue_enable read 0', () => {
    const fixture = withEnabledQueue();
    fixture.model.isQueueResetHeld = true;
    fixture.write('queue_reset', 1);
    expect(registers(fixture)).toMatchObject({ reset: 1, size: 16 });
    fixture.write('queue_enable', 1);
    fixture.write('queue_size', 4);
    expect(fixture.pciFunction.statistics.refusedWriteCount).toBe(2);
    fixture.write('queue_select', 1);
    expect(fixture.read('queue_reset')).toBe(0);
    fixture.write('queue_select', 0);
    fixture.model.finishQueueReset(0);
    fixture.pciFunction.queueResetDone?.(0);
    expect(registers(fixture)).toEqual(fresh);
    fixture.write('queue_size', 4);
    fixture.write('queue_enable', 1);
    expect(fixture.model.enabled.get(0)?.size).toBe(4);
  });

  it.each([0, 2, 0xffff])('§2.6.1.2 queue_reset of %i is refused and changes nothing', (value) => {
    const fixture = withEnabledQueue();
    fixture.write('queue_reset', value);
    expect(registers(fixture)).toMatchObject({ reset: 0, enable: 1, size: 16 });
    expect([fixture.model.queueResets, fixture.pciFunction.statistics.refusedWriteCount]).toEqual([[], 1]);
  });

  it('§4.1.4.3.1 queue_reset of a queue that does not exist does nothing', () => {
    const fixture = new FunctionFixture();
    fixture.write('queue_select', 2);
    fixture.write('queue_reset', 1);
    expect([fixture.read('queue_reset'), fixture.model.queueResets]).toEqual([0, []]);
  });
});

describe('common configuration: vectors (§4.1.5.1.2)', () => {
  it('§4.1.5.1.2.1 a vector that exists reads back, for the configuration and for each queue', () => {
    const fixture = new FunctionFixture({ vectorCount: 3 });
    fixture.write('config_msix_vector', 2);
    fixture.write('queue_msix_vector', 1);
    fixture.write('queue_select', 1);
    fixture.write('queue_msix_vector', 0);
    expect([fixture.read('config_msix_vector'), fixture.read('queue_msix_vector')]).toEqual([2, 0]);
    fixture.write('queue_select', 0);
    expect(fixture.read('queue_msix_vector')).toBe(1);
  });

  it.each([3, 0x7ff, 0xfffe])(
    '§4.1.5.1.2.1 the vector %i that does not exist reads back as NO_VECTOR',
    (vector) => {
      const fixture = new FunctionFixture({ vectorCount: 3 });
      for (const field of ['config_msix_vector', 'queue_msix_vector'] as const) {
        fixture.write(field, 1);
        fixture.write(field, vector);
        expect(fixture.read(field)).toBe(VIRTIO_MSI_NO_VECTOR);
      }
    },
  );

  it('§4.1.5.1.2.1 vectors can be unmapped', () => {
    const fixture = new FunctionFixture({ vectorCount: 3 });
    fixture.write('config_msix_vector', 1);
    fixture.write('config_msix_vector', VIRTIO_MSI_NO_VECTOR);
    expect(fixture.read('config_msix_vector')).toBe(VIRTIO_MSI_NO_VECTOR);
  });
});
