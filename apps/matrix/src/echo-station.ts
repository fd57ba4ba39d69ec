import type { HostPort } from '@virtlab/virtio-net';

/** Makes a port of a switch a station with that address which sends every frame back to where it came from. */
export function echoFrames(station: HostPort, mac: Uint8Array): void {
  station.onFrame((frame) => {
    const echo = frame.slice();
    echo.set(frame.subarray(6, 12), 0);
    echo.set(mac, 6);
    station.send(echo);
    station.kick();
  });
}
