//! The modules of core, and those of the driver, import each other in one direction only (ARCHITECTURE.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Imports = BTreeMap<String, BTreeSet<String>>;

/// Returns every Rust file below `directory` that is part of the library.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("core's sources are readable") {
        let path = entry.expect("core's sources are readable").path();
        let stem = path.file_stem();
        let is_test = stem.is_some_and(|stem| stem == "tests" || stem == "testkit");
        if is_test {
            continue;
        } else if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Returns the top-level module of `crate::name`: itself, or the one from which `lib.rs` re-exports it.
fn module_of(name: &str, exports: &BTreeMap<String, String>) -> String {
    exports.get(name).map_or(name, String::as_str).to_owned()
}

/// Returns the re-exports of `lib.rs`, with their modules.
fn exports(lib: &str) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for line in lib.lines() {
        let Some((module, names)) = line
            .strip_prefix("pub use ")
            .and_then(|path| path.trim_end_matches(';').split_once("::"))
        else {
            continue;
        };
        for name in names.trim_matches(['{', '}']).split(", ") {
            exports.insert(name.to_owned(), module.to_owned());
        }
    }
    exports
}

/// Returns the names after `crate::` in the production part of `text`: in imports, in paths, and inside `crate::{…}`.
fn imported(text: &str) -> Vec<String> {
    names_after(text, "crate::")
}

/// The names after `prefix`, a path, in the production part of `text`.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let production = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let code: String = production
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| is_name(c) || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split_once("};").expect("a list of imports ends").0;
                let mut depth = 0;
                let mut name = String::new();
                for c in list.chars().chain([',']) {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                        _ if depth == 0 => name.push(c),
                        _ => {}
                    }
                }
            }
            None => names.push(rest.chars().take_while(|&c| is_name(c)).collect()),
        }
    }
    let first = |name: &String| name.trim().split("::").next().unwrap_or("").to_owned();
    names
        .iter()
        .map(first)
        .filter(|name| !name.is_empty())
        .collect()
}

/// Returns what the modules of core import.
fn imports() -> Imports {
    imports_of("src")
}

/// Returns what the modules of the library import whose sources are there.
fn imports_of(source: &str) -> Imports {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let lib = fs::read_to_string(source.join("lib.rs")).expect("a library has a lib.rs");
    let exports = exports(&lib);
    let mut imports = Imports::new();
    for path in files_below(&source) {
        let inside = path.strip_prefix(&source).expect("it is below the sources");
        let module = inside.components().next().expect("a path has a first part");
        let module = module
            .as_os_str()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("core's sources are readable");
        let found = imported(&text)
            .into_iter()
            .map(|name| module_of(&name, &exports));
        let others = found.filter(|other| *other != module);
        imports.entry(module.clone()).or_default().extend(others);
    }
    imports
}

/// Returns a path from `module` back to itself, if there is one.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    fn walk(imports: &Imports, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let last = path.last().expect("a path has a beginning").clone();
        for next in imports.get(&last).into_iter().flatten() {
            let is_closed = path.contains(next);
            if done.contains(next) {
                continue;
            }
            path.push(next.clone());
            if is_closed || walk(imports, path, done) {
                return true;
            }
            path.pop();
        }
        done.insert(last);
        false
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| {
        let mut path = vec![module.clone()];
        walk(imports, &mut path, &mut done).then_some(path)
    })
}

#[test]
fn no_module_imports_one_that_imports_it() {
    for source in ["src", "../driver/src"] {
        let imports = imports_of(source);
        assert!(
            imports.len() > 5,
            "the modules of {source} were not found: {imports:?}"
        );
        let circle = circle(&imports);
        assert_eq!(circle.map(|path| path.join(" -> ")), None, "{source}");
    }
}

/// The shared modules depend on neither end, and no end depends on another.
#[test]
fn shared_modules_import_no_machine() {
    const MACHINES: [&str; 3] = ["edge", "client", "backend"];
    for (module, imported) in imports() {
        for machine in MACHINES {
            assert!(!imported.contains(machine), "{module} imports {machine}");
        }
    }
}

/// Another version changes its own module and `protocol.rs`.
#[test]
fn only_protocol_names_a_version() {
    let mut imports = imports();
    assert!(
        imports
            .remove("protocol")
            .is_some_and(|imported| imported.contains("v2"))
    );
    for (module, imported) in imports {
        for version in ["v2", "v3"] {
            assert!(!imported.contains(version), "{module} imports {version}");
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files_below(&source) {
        let inside = path.strip_prefix(&source).expect("it is below the sources");
        if inside.starts_with("protocol") || inside == Path::new("protocol.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("core's sources are readable");
        for name in ["V2", "V3"] {
            let named = names_after(&text, "Version::").iter().any(|of| of == name);
            assert!(!named, "{} names Version::{name}", inside.display());
        }
    }
}

/// In the edge only `lifecycle/`, its face, `mod.rs`, and what records it, `record/`, know the machine. The parts import each other in one direction.
#[test]
fn parts_of_the_edge_do_not_know_the_edge() {
    let edge = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge");
    let mut imports = Imports::new();
    for path in files_below(&edge) {
        let inside = path.strip_prefix(&edge).expect("it is below the edge");
        let part = inside.components().next().expect("a path has a first part");
        let part = part.as_os_str().to_string_lossy();
        let part = part.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("core's sources are readable");
        // The trunk is a machine of its own, made beside an edge, whose rules are not its own.
        if part == "trunk" {
            let known = names_after(&text, "crate::edge::");
            assert!(!known.iter().any(|name| name == "lifecycle"));
        }
        // A recording is of the machine, and a replay calls it as an adapter does.
        let knows_the_machine = ["mod", "lifecycle", "trunk", "record"];
        let is_machine = knows_the_machine.contains(&part.as_str());
        if is_machine {
            continue;
        }
        let has_methods = ["impl Edge {", "for Edge {"]
            .iter()
            .any(|of| text.contains(of));
        assert!(!has_methods, "{} has methods of Edge", inside.display());
        let known = names_after(&text, "crate::edge::");
        for name in &known {
            let is_part = name.starts_with(char::is_lowercase) && name != "lifecycle";
            assert!(is_part, "{} imports edge::{name}", inside.display());
        }
        let others = known.into_iter().filter(|other| *other != part);
        imports.entry(part.clone()).or_default().extend(others);
    }
    assert!(
        imports.len() > 5,
        "the edge's parts were not found: {imports:?}"
    );
    assert_eq!(circle(&imports).map(|path| path.join(" -> ")), None);
}

/// A public type of a published library can be extended, or says why it cannot.
#[test]
fn published_libraries_warn_of_types_that_cannot_grow() {
    const LINTS: &str = "#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut libraries = Vec::new();
    for entry in fs::read_dir(&root).expect("the repository is readable") {
        let package = entry.expect("the repository is readable").path();
        let Ok(manifest) = fs::read_to_string(package.join("Cargo.toml")) else {
            continue;
        };
        // The package of the programs has a library for its tests.
        let is_published = !manifest.contains("\npublish = false") && !package.ends_with("app");
        if let (true, Ok(lib)) = (is_published, fs::read_to_string(package.join("src/lib.rs"))) {
            assert!(lib.contains(LINTS), "{} lacks {LINTS}", package.display());
            libraries.push(package);
        }
    }
    assert!(libraries.len() > 5, "only found {libraries:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::a::b;\nuse crate::{c, d::{e, f}, G};\n// crate::no\nlet x = crate::h::i();\n\
                #[cfg(test)]\nmod tests {\n    use crate::tested;\n}";
    assert_eq!(imported(text), ["a", "c", "d", "G", "h"]);
    let edges = |pairs: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            imports
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        imports
    };
    assert_eq!(circle(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")]));
    assert_eq!(found.unwrap_or_default().join(" "), "a b c b");
}

/// What changes the machine and is not recorded, and why.
const NOT_RECORDED: [(&str, &str); 13] = [
    ("record", "it begins a recording"),
    ("record_on", "it begins one, too"),
    ("end_recording", "it ends one"),
    ("handle_accepted", "it calls handle_accepted_at"),
    (
        "take_over",
        "an edge that takes the place of another one is not recorded",
    ),
    ("take_handover", "an edge of several shards is not recorded"),
    (
        "handle_handover",
        "an edge of several shards is not recorded",
    ),
    (
        "discard_handover",
        "an edge of several shards is not recorded",
    ),
    ("handle_move", "an edge of several shards is not recorded"),
    (
        "take_departing",
        "an edge of several shards is not recorded",
    ),
    (
        "handle_arriving",
        "an edge of several shards is not recorded",
    ),
    (
        "take_branch_output",
        "an edge of several shards is not recorded",
    ),
    (
        "handle_branch_input",
        "an edge of several shards is not recorded",
    ),
];

/// Each public method that can change the machine tells the recording before it does anything (SPEC 42.1(a)).
#[test]
fn every_call_of_the_edge_is_recorded() {
    let edge = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge");
    let mut seen = BTreeSet::new();
    for file in files_below(&edge) {
        let text = fs::read_to_string(&file).expect("core's sources are readable");
        for begin in ["\nimpl Edge {\n", "\nimpl HasLink for Edge {\n"] {
            let is_trait = begin.contains("HasLink");
            for part in text.split(begin).skip(1) {
                let body = part.split("\n}\n").next().unwrap_or(part);
                for method in body.split("\n    }\n") {
                    let from = method.find("    pub fn ");
                    let from = from.or_else(|| method.find("    fn ").filter(|_| is_trait));
                    let Some((signature, code)) =
                        from.and_then(|from| method[from..].split_once('{'))
                    else {
                        continue;
                    };
                    let name = signature.split("fn ").nth(1).unwrap_or_default();
                    let name = name.split(['(', '<']).next().unwrap_or(name);
                    if !signature.contains("&mut self") {
                        continue;
                    }
                    let ends = code.contains("self.stop_recording();");
                    let is_told = ends || code.trim_start().starts_with("noted!(");
                    let is_exempt = NOT_RECORDED.iter().any(|&(exempt, _)| exempt == name);
                    let file = file.display();
                    assert!(is_told || is_exempt, "{file}: {name} is not recorded");
                    seen.insert(name.to_owned());
                }
            }
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
    for (exempt, _) in NOT_RECORDED {
        assert!(seen.contains(exempt), "{exempt} is no method any more");
    }
}
