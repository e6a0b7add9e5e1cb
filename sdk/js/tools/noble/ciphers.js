// What @noble/ciphers does beside its ciphers, for the bundles: without the checks of its callers, of whom there is one, and for machines that
// are little-endian, as all are that have a browser.
export * from "@noble/ciphers/utils.js";

export const isLE = true;
export const abool = () => {};
export const aexists = () => {};
export const anumber = () => {};
export const aoutput = () => {};
export const complexOverlapBytes = () => {};
export const abytes = (bytes) => bytes;
export const swap32IfBE = (words) => words;
export const checkOpts = Object.assign;
export const clean = (...arrays) => arrays.forEach((array) => array.fill(0));
export const copyBytes = (bytes) => new Uint8Array(bytes);
export const getOutput = (length, output = new Uint8Array(length)) => output;
