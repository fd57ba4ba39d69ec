import { guestImage } from './image/guest-image.ts';

/** Makes the guest's image and says where it is. Arguments: more programs of this machine that the guest shall have. */
const image = guestImage({ programs: process.argv.slice(2) });
process.stdout.write(`${JSON.stringify(image, undefined, 2)}\n`);
