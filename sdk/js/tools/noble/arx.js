// What @noble/ciphers puts around the block of ChaCha20, for the bundles: for keys of 32 bytes and nonces of 12.
// See ciphers.js.
export * from "@noble/ciphers/_arx.js";

const BLOCK_WORDS = 16;
/** "expand 32-byte k". */
const CONSTANT = /* @__PURE__ */ Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574);

export const createCipher =
  (core) =>
  (key, nonce, data, output = new Uint8Array(data.length), counter = 0) => {
    const words = (bytes) => new Uint32Array(new Uint8Array(bytes).buffer);
    const [secret, once] = [words(key), words(nonce)];
    const stream = new Uint32Array(BLOCK_WORDS);
    const bytes = new Uint8Array(stream.buffer);
    for (let at = 0; at < data.length; at += bytes.length) {
      core(CONSTANT, secret, once, stream, counter++);
      const end = Math.min(bytes.length, data.length - at);
      for (let of = 0; of < end; of++) output[at + of] = data[at + of] ^ bytes[of];
    }
    secret.fill(0);
    stream.fill(0);
    return output;
  };
