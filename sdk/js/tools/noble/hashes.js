// What @noble/hashes does beside its hashes, for the bundles. See ciphers.js.
export * from "@noble/hashes/utils.js";
export { abytes, aexists, aoutput, clean } from "./ciphers.js";
