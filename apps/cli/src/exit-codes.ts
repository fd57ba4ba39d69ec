/** How `virtlab` ends; documented in its README. */
export const EXIT_OK = 0;
/** The lab ran and something did not do what it should. */
export const EXIT_FAILED = 1;
/** The arguments cannot be worked with. */
export const EXIT_USAGE = 2;
/** This machine lacks something that the command needs. */
export const EXIT_ENVIRONMENT = 3;
/** 128 + SIGINT, 128 + SIGTERM, as shells have it. */
export const EXIT_INTERRUPTED = 130;
export const EXIT_TERMINATED = 143;
