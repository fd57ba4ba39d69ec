/** Bytes of one message between peers: as many as one buffer of the ring between processes holds. */
export const MESSAGE_SIZE = 4;
