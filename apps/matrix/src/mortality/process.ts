// The process of a domain, as the mortality tests bundle it.
// oxlint-disable-next-line import/no-unassigned-import
import '@virtlab/domain/node/process';
