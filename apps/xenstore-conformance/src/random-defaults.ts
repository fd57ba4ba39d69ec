/** First seed of the random scripts. */
export const RANDOM_SEED = 1;
/** Steps of the random scripts for each live daemon in every test run. */
export const RANDOM_STEP_COUNT = 4000;
