//! Copies the workspace, with the planted bugs in the copy's core.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Table;

/// The feature of core that distinguishes the copy's builds from those of the workspace.
///
/// Cargo names a build by its package, features and path within the workspace. Without this feature, both cores would have the same name in
/// a shared target directory.
const FEATURE: &str = "[features]\nplanted = []\n";

/// Returns the root of the workspace that this program was built from.
#[must_use]
pub fn workspace() -> &'static Path {
    let sim = Path::new(env!("CARGO_MANIFEST_DIR"));
    sim.parent().unwrap_or(sim)
}

/// Copies the workspace at `root` to `into`, or updates an existing copy.
///
/// Unchanged files are not written again, so cargo does not rebuild them. Other files in `into` are removed.
///
/// # Errors
/// Rows of the table that do not match the core, or a file that cannot be read or written.
pub fn copy(root: &Path, into: &Path) -> Result<(), String> {
    let mut files = sources(root)?;
    let table = Table::read(root)?;
    let changed = table.apply(|file| text(&files, file).map(str::to_owned))?;
    for (file, text) in changed {
        files.insert(file.into(), text.into_bytes());
    }
    wire(&mut files, table.switch())?;
    remove_others(into, into, &files)?;
    for (file, bytes) in &files {
        let path = into.join(file);
        if fs::read(&path).is_ok_and(|before| before == *bytes) {
            continue;
        }
        let folder = path.parent().unwrap_or(into);
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        fs::write(&path, bytes).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Adds the switch and the feature to the copy's core, and the dependency on it to the simulator.
fn wire(files: &mut Files, switch: String) -> Result<(), String> {
    let mut edit = |file: &str, change: &dyn Fn(&str) -> Option<String>| {
        let changed = change(text(files, file)?).ok_or(format!(
            "{file} is not as sim/src/planted/copy.rs takes it to be"
        ))?;
        files.insert(file.into(), changed.into_bytes());
        Ok::<_, String>(())
    };
    edit("core/src/lib.rs", &|text| {
        Some(format!("{text}\npub mod planted;\n"))
    })?;
    edit("core/Cargo.toml", &|text| {
        once(text, "[features]\n", FEATURE)
    })?;
    edit("sim/Cargo.toml", &|text| {
        once(
            text,
            "\nplanted = []\n",
            "\nplanted = [\"voltlane-core/planted\"]\n",
        )
    })?;
    edit("sim/src/lib.rs", &|text| {
        once(
            text,
            "#[cfg(feature = \"planted\")]\ncompile_error!",
            "#[cfg(not(feature = \"planted\"))]\ncompile_error!",
        )
    })?;
    files.insert("core/src/planted.rs".into(), switch.into_bytes());
    Ok(())
}

fn once(text: &str, find: &str, replace: &str) -> Option<String> {
    (text.matches(find).count() == 1).then(|| text.replace(find, replace))
}

fn text<'a>(files: &'a Files, file: &str) -> Result<&'a str, String> {
    let bytes = files.get(Path::new(file)).ok_or("there is no such file")?;
    str::from_utf8(bytes).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Manifest {
    workspace: Members,
}

#[derive(Deserialize)]
struct Members {
    members: Vec<PathBuf>,
}

/// Returns the files of the root and of each member, by their paths in the workspace, without hidden files and target directories.
fn sources(root: &Path) -> Result<Files, String> {
    let path = root.join("Cargo.toml");
    let manifest = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
    let manifest: Manifest =
        toml::from_str(&manifest).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut files = Files::new();
    read_folder(root, Path::new(""), false, &mut files)?;
    for member in manifest.workspace.members {
        read_folder(root, &member, true, &mut files)?;
    }
    Ok(files)
}

fn read_folder(root: &Path, folder: &Path, deep: bool, files: &mut Files) -> Result<(), String> {
    for (path, is_folder) in entries(&root.join(folder))? {
        let name = path.file_name().unwrap_or_default();
        if name == "target" || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let file = folder.join(name);
        if !is_folder {
            let bytes = fs::read(&path).map_err(|error| failed(&path, &error))?;
            files.insert(file, bytes);
        } else if deep {
            read_folder(root, &file, true, files)?;
        }
    }
    Ok(())
}

/// Removes files of an earlier copy that this one does not have.
fn remove_others(into: &Path, folder: &Path, files: &Files) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    for (path, is_folder) in entries(folder)? {
        if is_folder {
            remove_others(into, &path, files)?;
        } else if !files.contains_key(path.strip_prefix(into).unwrap_or(&path)) {
            fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}

/// Lists a directory, and tells which entries are directories. Links are not followed.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, String> {
    let read = || {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() || kind.is_file() {
                found.push((entry.path(), kind.is_dir()));
            }
        }
        Ok(found)
    };
    read().map_err(|error| failed(folder, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
