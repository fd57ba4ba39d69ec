/** How `virtlab` ends; documented in its README. */
export const EXIT_OK = 0;
/** What was asked for ran, and something did not do what it should; of `virtlab xs`, all errors, as of xenstore-utils. */
export const EXIT_FAILED = 1;
/** The arguments cannot be worked with. */
export const EXIT_USAGE = 2;
/** This machine lacks something that the command needs, or the place is taken. */
export const EXIT_ENVIRONMENT = 3;
/** The daemon refused an administrative command: what xenstore-control ends with. */
export const EXIT_CONTROL_FAILED = 3;
/** 128 + SIGINT, 128 + SIGPIPE, 128 + SIGTERM, as shells have it. */
export const EXIT_INTERRUPTED = 130;
export const EXIT_PIPE_CLOSED = 141;
export const EXIT_TERMINATED = 143;
