// For esbuild.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

/** Has noble take what is here in the place of what it has around its ciphers and hashes. */
export const noble = {
  name: "noble",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/(utils|_arx)\.js$/ }, ({ importer, path }) => {
      const found = /@noble\/(ciphers|hashes)\//.exec(importer);
      return found ? { path: join(here, path === "./utils.js" ? `${found[1]}.js` : "arx.js"), sideEffects: false } : undefined;
    });
  },
};
