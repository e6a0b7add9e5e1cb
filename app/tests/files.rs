//! Faults of the files themselves (rows G1 and G7 of the catalogue of bad input), on a real disk.

use std::fs;
use std::path::{Path, PathBuf};

use voltlane_app::config::{Loaded, Note, Problems, Settings, WhenMissing, default_file, load};

/// An empty directory for each test, removed afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        // One that was killed may have left it, with the same process id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).expect("a file can be written");
    }

    fn run(&self, config: Option<&str>) -> Result<(Loaded, Option<Note>), Problems> {
        load(
            &self.0,
            config.map(Path::new),
            WhenMissing::Write,
            Vec::new(),
        )
    }

    fn check(&self, config: Option<&str>) -> Result<(Loaded, Option<Note>), Problems> {
        load(
            &self.0,
            config.map(Path::new),
            WhenMissing::Leave,
            Vec::new(),
        )
    }

    /// Returns the names of the files, sorted.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the directory can be read");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn refused(result: Result<(Loaded, Option<Note>), Problems>, says: &str) {
    assert_eq!(
        result.map(|_| ()).map_err(|problems| problems.to_string()),
        Err(says.to_owned())
    );
}

#[test]
fn g1_21_a_missing_file_is_written_whole_and_then_read() {
    let directory = Directory::new("missing");
    let (loaded, note) = directory.run(None).expect("the defaults are good");
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(note, Some(Note::Wrote("connserver.toml".into())));
    assert_eq!(
        directory.files(),
        ["connserver.toml"],
        "nothing else stays behind"
    );
    assert_eq!(
        fs::read_to_string(directory.0.join("connserver.toml")).expect("written"),
        default_file()
    );
    let (again, note) = directory.run(None).expect("what was written is good");
    assert_eq!((again, note), (loaded, None));
}

#[test]
fn g1_22_a_missing_file_that_was_named_is_written_as_well() {
    let directory = Directory::new("named");
    let (_, note) = directory
        .run(Some("edge.toml"))
        .expect("the defaults are good");
    assert_eq!(note, Some(Note::Wrote("edge.toml".into())));
    assert_eq!(directory.files(), ["edge.toml"]);
}

#[test]
fn g1_23_a_missing_directory_is_not_made() {
    let directory = Directory::new("nowhere");
    refused(
        directory.run(Some("etc/edge.toml")),
        "etc/edge.toml: does not exist and cannot be written: No such file or directory (os error 2)",
    );
    assert_eq!(directory.files(), [""; 0]);
}

#[test]
fn g1_24_check_writes_nothing() {
    let directory = Directory::new("check");
    let (loaded, note) = directory.check(None).expect("the defaults are good");
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(note, Some(Note::NotThere("connserver.toml".into())));
    refused(
        directory.check(Some("edge.toml")),
        "edge.toml: there is no such file to check; an edge would write it, with the defaults",
    );
    assert_eq!(directory.files(), [""; 0]);
}

#[test]
fn g1_25_an_empty_file_is_left_as_it_is() {
    let directory = Directory::new("empty");
    directory.write("connserver.toml", "");
    assert!(directory.run(None).is_ok());
    assert_eq!(
        fs::read(directory.0.join("connserver.toml")).expect("there"),
        b""
    );
}

#[test]
fn g1_26_a_directory() {
    let directory = Directory::new("directory");
    fs::create_dir(directory.0.join("connserver.toml")).expect("a directory can be made");
    refused(directory.run(None), "connserver.toml: this is a directory");
}

#[test]
fn g1_27_a_hundred_megabytes_are_not_read() {
    let directory = Directory::new("large");
    let file = fs::File::create(directory.0.join("connserver.toml")).expect("a file can be made");
    file.set_len(100 << 20)
        .expect("a sparse file costs nothing");
    refused(
        directory.run(None),
        "connserver.toml: larger than 256 KiB, so this is no configuration",
    );
}

#[cfg(unix)]
#[test]
fn g1_28_a_link_to_nothing_is_not_written_through() {
    let directory = Directory::new("link");
    std::os::unix::fs::symlink("gone.toml", directory.0.join("connserver.toml"))
        .expect("a link can be made");
    refused(
        directory.run(None),
        "connserver.toml: this is a link to gone.toml, which does not exist",
    );
    assert_eq!(directory.files(), ["connserver.toml"]);
}

#[cfg(unix)]
#[test]
fn g1_29_a_link_to_a_file_is_the_file() {
    let directory = Directory::new("good-link");
    directory.write("real.toml", "[general]\nlog_level = \"Off\"\n");
    std::os::unix::fs::symlink("real.toml", directory.0.join("connserver.toml"))
        .expect("a link can be made");
    let (loaded, _) = directory.run(None).expect("good");
    assert_eq!(loaded.settings.general.log_level.to_string(), "Off");
}

#[cfg(unix)]
#[test]
fn g1_30_a_link_to_itself() {
    let directory = Directory::new("loop");
    std::os::unix::fs::symlink("connserver.toml", directory.0.join("connserver.toml"))
        .expect("a link can be made");
    let problems = directory.run(None).expect_err("a loop").to_string();
    assert!(
        problems.starts_with("connserver.toml: cannot be read: "),
        "{problems}"
    );
}

#[cfg(unix)]
#[test]
fn g1_31_no_permission() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("permission");
    directory.write("connserver.toml", "");
    let path = directory.0.join("connserver.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("the mode can be set");
    match fs::File::open(&path) {
        // The superuser reads everything.
        Ok(_) => assert!(directory.run(None).is_ok()),
        Err(error) => refused(
            directory.run(None),
            &format!("connserver.toml: cannot be read: {error}"),
        ),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn g1_32_a_file_that_fails_while_it_is_read() {
    let directory = Directory::new("io");
    let problems = directory
        .run(Some("/proc/self/mem"))
        .expect_err("its first page is not there")
        .to_string();
    assert!(
        problems.starts_with("/proc/self/mem: cannot be read: "),
        "{problems}"
    );
}

#[test]
fn g1_33_a_path_through_a_file() {
    let directory = Directory::new("through");
    directory.write("file", "");
    let problems = directory
        .run(Some("file/edge.toml"))
        .expect_err("a file is no directory")
        .to_string();
    assert!(
        problems.starts_with("file/edge.toml: cannot be read: "),
        "{problems}"
    );
}

#[test]
fn g1_34_the_defaults_hold_where_nothing_can_be_written() {
    // Not by permission, which does not apply to the superuser.
    let directory = Directory::new("read-only");
    let gone = directory.0.join("gone");
    let run =
        |config: Option<&str>| load(&gone, config.map(Path::new), WhenMissing::Write, Vec::new());
    let (loaded, note) = run(None).expect("the defaults are good");
    assert_eq!(loaded.settings, Settings::default());
    assert!(matches!(note, Some(Note::CouldNotWrite(..))), "{note:?}");
    let problems = run(Some("connserver.toml"))
        .expect_err("it was named")
        .to_string();
    assert!(
        problems.starts_with("connserver.toml: does not exist and cannot be written: "),
        "{problems}"
    );
}

#[test]
fn g1_35_dotenv_in_the_working_directory_is_read() {
    let directory = Directory::new("dotenv");
    directory.write(".env", "VOLTLANE_CLIENTS_CHANNEL_CAPACITY=5\n");
    let (loaded, _) = directory.run(None).expect("good");
    assert_eq!(loaded.settings.clients.channel_capacity, 5);
}

#[test]
fn g1_36_a_directory_named_dotenv_is_not_ours() {
    let directory = Directory::new("dotenv-directory");
    fs::create_dir(directory.0.join(".env")).expect("a directory can be made");
    assert!(directory.run(None).is_ok());
}

#[test]
fn g1_37_a_hundred_megabytes_of_dotenv_are_not_read() {
    let directory = Directory::new("dotenv-large");
    let file = fs::File::create(directory.0.join(".env")).expect("a file can be made");
    file.set_len(100 << 20)
        .expect("a sparse file costs nothing");
    refused(
        directory.run(None),
        ".env: larger than 256 KiB, so this is no configuration",
    );
}

/// A pipe that nobody writes to would block the start for ever.
#[cfg(unix)]
#[test]
fn g1_39_what_is_no_file_is_refused_by_its_kind() {
    let directory = Directory::new("pipe");
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo")
            .arg(directory.0.join(name))
            .status();
        assert!(made.expect("mkfifo is there").success());
    };
    pipe(".env");
    refused(directory.run(None), ".env: this is a pipe");
    pipe("edge.key");
    fs::remove_file(directory.0.join(".env")).expect("it is there");
    directory.write("connserver.toml", "general.key_file = \"edge.key\"\n");
    let problem = directory.run(None).map(|_| ()).expect_err("no key file");
    assert!(
        problem.to_string().ends_with("edge.key: this is a pipe"),
        "{problem}"
    );
    fs::remove_file(directory.0.join("connserver.toml")).expect("it is there");
    pipe("connserver.toml");
    refused(directory.run(None), "connserver.toml: this is a pipe");
    fs::remove_file(directory.0.join("connserver.toml")).expect("it is there");

    std::os::unix::fs::symlink("/dev/zero", directory.0.join(".env")).expect("a link can be made");
    refused(directory.run(None), ".env: this is a device");
    fs::remove_file(directory.0.join(".env")).expect("it is there");
    std::os::unix::fs::symlink("/dev/null", directory.0.join(".env")).expect("a link can be made");
    assert!(directory.run(Some("/dev/null")).is_ok(), "nothing is read");

    // A named one may be written to by a command: `--config <(...)`.
    let writer = std::thread::spawn({
        pipe("written");
        let path = directory.0.join("written");
        move || fs::write(path, "clients.channel_capacity = 5\n")
    });
    let (loaded, _) = directory.run(Some("written")).expect("good");
    assert_eq!(loaded.settings.clients.channel_capacity, 5);
    writer.join().expect("no panic").expect("it was read");
    let again = load(
        &directory.0,
        Some(Path::new("written")),
        WhenMissing::Keep {
            has_file: true,
            has_dotenv: false,
        },
        Vec::new(),
    );
    refused(again, "written: this is a pipe");
}

#[test]
fn g1_38_faults_of_files_and_of_values_are_reported_together() {
    let directory = Directory::new("together");
    fs::create_dir(directory.0.join("connserver.toml")).expect("a directory can be made");
    directory.write(".env", "VOLTLANE_CLIENTS_CHANNEL_CAPACITY=0\n");
    refused(
        directory.run(None),
        "connserver.toml: this is a directory\n\
         .env:1: VOLTLANE_CLIENTS_CHANNEL_CAPACITY = \"0\": must be a whole number from 1 to 16777216",
    );
}

#[test]
fn g7_01_many_that_start_at_once_see_nothing_or_the_whole_file() {
    let directory = Directory::new("race");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let (loaded, _) = directory.check(None).expect("never half a file");
                    assert_eq!(loaded.settings, Settings::default());
                }
            });
        }
        directory.run(None).expect("the defaults are good");
    });
    assert_eq!(directory.files(), ["connserver.toml"]);
}
