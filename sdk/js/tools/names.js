// The names of properties that only this library uses, so that its bundles can have shorter ones.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

const NOBLE = ["ciphers", "hashes", "secp256k1"];

/**
 * Returns the names of properties that are declared in src/ and that nobody else knows: they are not of the public types of the modules
 * `entries`, nor of anything that the runtime or a dependency declares, and no text of src/ is equal to one.
 */
export function internalNames(root, entries) {
  const configuration = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile).config;
  const { fileNames, options } = ts.parseJsonConfigFileContent(configuration, ts.sys, root);
  const program = ts.createProgram(fileNames, options);
  // It sets the parents of the nodes, too.
  const checker = program.getTypeChecker();
  const isOurs = (file) => file.fileName.startsWith(join(root, "src/"));
  const [ours, others, texts] = [new Set(), new Set(), new Set()];
  // Pages have nothing of Node.js.
  const files = program.getSourceFiles().filter(({ fileName }) => !/node_modules\/(@types\/node|undici-types)\//.test(fileName));
  for (const file of files) {
    const isOwn = isOurs(file);
    visit(file, (node) => {
      const name = node.name && (ts.isIdentifier(node.name) || ts.isStringLiteral(node.name)) ? node.name.text : undefined;
      if (name !== undefined && (isOwn ? isProperty(node) : !ts.isParameter(node))) (isOwn ? ours : others).add(name);
      if (isOwn && ts.isStringLiteralLike(node)) texts.add(node.text);
    });
  }
  // What the dependencies use without a declaration of it.
  for (const name of NOBLE) {
    const directory = join(root, "node_modules/@noble", name);
    for (const file of readdirSync(directory).filter((file) => file.endsWith(".js"))) {
      const source = ts.createSourceFile(file, readFileSync(join(directory, file), "utf8"), ts.ScriptTarget.ES2022);
      visit(source, (node) => (ts.isIdentifier(node) || ts.isStringLiteralLike(node)) && others.add(node.text));
    }
  }
  const shown = publicNames(program, checker, isOurs, entries.map((entry) => join(root, "src", entry)));
  return [...ours].filter((name) => name.length > 1 && !others.has(name) && !texts.has(name) && !shown.has(name)).sort();
}

function visit(node, see) {
  see(node);
  ts.forEachChild(node, (child) => visit(child, see));
}

function isProperty(node) {
  return (
    ts.isPropertyDeclaration(node) ||
    ts.isPropertySignature(node) ||
    ts.isMethodDeclaration(node) ||
    ts.isMethodSignature(node) ||
    ts.isAccessor(node) ||
    ts.isPropertyAssignment(node) ||
    ts.isShorthandPropertyAssignment(node) ||
    (ts.isParameter(node) && ts.isParameterPropertyDeclaration(node, node.parent))
  );
}

function isHidden(declaration) {
  const isPrivate = ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Private;
  return isPrivate || ts.getJSDocTags(declaration).some(({ tagName }) => tagName.text === "internal");
}

/** The names of all properties that are reached from what the modules export, but for private and internal ones. */
function publicNames(program, checker, isOurs, entries) {
  const names = new Set();
  const seen = new Set();
  const walk = (type) => {
    if (!type || seen.has(type)) return;
    seen.add(type);
    if (type.isUnionOrIntersection()) type.types.forEach(walk);
    for (const property of type.getProperties()) {
      const declaration = property.declarations?.[0];
      if (!declaration || !isOurs(declaration.getSourceFile())) continue;
      if (isHidden(declaration)) continue;
      names.add(property.name);
      walk(checker.getTypeOfSymbolAtLocation(property, declaration));
    }
    for (const signature of [...type.getCallSignatures(), ...type.getConstructSignatures()]) {
      if (signature.declaration && isHidden(signature.declaration)) continue;
      walk(signature.getReturnType());
      for (const parameter of signature.getParameters()) {
        walk(checker.getTypeOfSymbolAtLocation(parameter, parameter.valueDeclaration));
      }
    }
    checker.getTypeArguments(type).forEach?.(walk);
    type.aliasTypeArguments?.forEach(walk);
  };
  for (const entry of entries) {
    for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry)))) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      walk(checker.getDeclaredTypeOfSymbol(symbol));
      if (symbol.valueDeclaration) walk(checker.getTypeOfSymbolAtLocation(symbol, symbol.valueDeclaration));
    }
  }
  return names;
}
