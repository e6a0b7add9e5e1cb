//! The file of the edge's key (row G11 of the catalogue of bad input): accepted, or refused and left unchanged.

use std::fs;
use std::path::{Path, PathBuf};

use voltlane_app::config::{WhenMissing, load};
use voltlane_app::key_file::{KeyFileError, load_or_make_key, mode_for_group, read_key};
use voltlane_core::keys::KeyPair;

const DIGITS: &str = "0707070707070707070707070707070707070707070707070707070707070707";

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("key-{name}-{}", std::process::id()));
        // One that was killed may have left it, with the same process id.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn key(&self) -> PathBuf {
        self.0.join("edge.key")
    }

    /// Writes the file so that only its owner can read it.
    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.key(), text).expect("a file can be written");
        self.set_mode(0o600);
    }

    fn set_mode(&self, mode: u32) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(self.key(), fs::Permissions::from_mode(mode))
                .expect("the mode can be set");
        }
        #[cfg(not(unix))]
        let _ = mode;
    }

    /// Checks that the file is refused in every way, and not touched.
    #[track_caller]
    fn refuses(&self, why: &KeyFileError) {
        let before = fs::read(self.key()).ok();
        let error = load_or_make_key(Some(&self.key()), || panic!("no silent replacement")).err();
        assert_eq!(error.as_ref(), Some(why));
        assert_eq!(fs::read(self.key()).ok(), before);
    }

    #[track_caller]
    fn refuses_as_no_key(&self) {
        self.refuses(&KeyFileError::NotAKey { path: self.key() });
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn seven() -> KeyPair {
    KeyPair::from_bytes(&[7; 32]).expect("a key")
}

#[test]
fn g11_01_a_missing_file_is_made_and_holds_the_key_from_then_on() {
    let directory = Directory::new("made");
    let made = load_or_make_key(Some(&directory.key()), seven).expect("it can be written");
    assert_eq!(made.public(), seven().public());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(
            fs::metadata(directory.key()).expect("there").mode() & 0o777,
            0o600
        );
    }
    let again =
        load_or_make_key(Some(&directory.key()), || panic!("it is there")).expect("it can be read");
    assert_eq!(again.public(), made.public());
    assert_eq!(
        fs::read_dir(&directory.0).expect("there").count(),
        1,
        "nothing else stays behind"
    );
}

#[test]
fn g11_02_without_a_file_a_key_is_made_each_time() {
    assert_eq!(
        load_or_make_key(None, seven).expect("no file").public(),
        seven().public()
    );
}

#[test]
fn g11_03_what_is_there_and_no_key() {
    let directory = Directory::new("broken");
    for text in [
        String::new(),
        "# a comment alone\n".into(),
        "secp256k1\n".into(),
        "secp256k1 \n".into(),
        format!("secp256k1 {}", &DIGITS[..62]),
        format!("secp256k1 {}", &DIGITS[..63]),
        format!("secp256k1 {DIGITS}0"),
        format!("secp256k1 {}g{}", &DIGITS[..10], &DIGITS[..53]),
        format!("secp256k1 +{}", &DIGITS[..63]),
        format!("secp256k1{DIGITS}"),
        format!("ed25519 {DIGITS}"),
        format!("secp256r1 {DIGITS}"),
        DIGITS.into(),
        format!("secp256k1 {DIGITS}\nsecp256k1 {DIGITS}\n"),
        // Not keys: zero, and numbers not below the order of the group.
        format!("secp256k1 {}", "0".repeat(64)),
        format!("secp256k1 {}", "f".repeat(64)),
        "-----BEGIN PRIVATE KEY-----\nMIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQg\n-----END PRIVATE KEY-----\n".into(),
        format!("secp256k1 {DIGITS}\n{}", "#".repeat(2_000)),
    ] {
        directory.write(text);
        directory.refuses_as_no_key();
    }
    directory.write([0xFF; 32]);
    directory.refuses_as_no_key();
}

#[test]
fn g11_04_what_people_do_to_a_text_file_does_no_harm() {
    let directory = Directory::new("edited");
    for text in [
        format!("secp256k1 {DIGITS}"),
        format!("\r\n# mine\r\n  secp256k1   {DIGITS}  \r\n\r\n"),
    ] {
        directory.write(text);
        let key = read_key(&directory.key()).expect("good").expect("there");
        assert_eq!(key.public(), seven().public());
    }
}

#[cfg(unix)]
#[test]
fn g11_05_a_file_that_others_may_read() {
    let directory = Directory::new("mode");
    for mode in [0o644, 0o604, 0o601, 0o620, 0o660, 0o777] {
        directory.write(format!("secp256k1 {DIGITS}\n"));
        directory.set_mode(mode);
        directory.refuses(&KeyFileError::Exposed {
            path: directory.key(),
            mode,
        });
    }
    for mode in [0o600, 0o400, 0o700, 0o440, 0o640, 0o610] {
        directory.set_mode(mode);
        assert!(read_key(&directory.key()).is_ok(), "{mode:o}");
        let for_group = (mode & 0o040 != 0).then_some(mode);
        assert_eq!(mode_for_group(&directory.key()), for_group);
    }
}

#[test]
fn g11_06_a_directory_and_a_path_to_nowhere() {
    let directory = Directory::new("directory");
    fs::create_dir(directory.key()).expect("a directory can be made");
    let error = load_or_make_key(Some(&directory.key()), || panic!("no silent replacement")).err();
    assert!(
        matches!(
            error,
            Some(KeyFileError::NotAFile {
                kind: "a directory",
                ..
            })
        ),
        "{error:?}"
    );
    let nowhere = directory.0.join("no/edge.key");
    let error = load_or_make_key(Some(&nowhere), seven).err();
    assert!(
        matches!(error, Some(KeyFileError::Unwritable { .. })),
        "{error:?}"
    );
}

#[cfg(unix)]
#[test]
fn g11_07_a_link_to_nothing() {
    let directory = Directory::new("link");
    std::os::unix::fs::symlink("gone", directory.key()).expect("a link can be made");
    let error = load_or_make_key(Some(&directory.key()), || panic!("no silent replacement")).err();
    assert!(
        matches!(error, Some(KeyFileError::Unreadable { .. })),
        "{error:?}"
    );
}

#[test]
fn g11_08_many_that_start_at_once_share_one_key() {
    let directory = Directory::new("race");
    let publics: Vec<_> = std::thread::scope(|scope| {
        let path = directory.key();
        let start = |number: u8| {
            let path = path.clone();
            scope.spawn(move || {
                let make = || KeyPair::from_bytes(&[number; 32]).expect("a key");
                load_or_make_key(Some(&path), make).map(|key| key.public())
            })
        };
        let threads: Vec<_> = (1..=8).map(start).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("no panic").ok())
            .collect()
    });
    assert_eq!(publics.len(), 8);
    let kept = read_key(&directory.key())
        .expect("good")
        .expect("there")
        .public();
    assert!(publics.iter().all(|public| *public == kept));
}

#[test]
fn g11_09_a_bad_key_file_is_a_problem_of_the_configuration() {
    let directory = Directory::new("configured");
    fs::write(
        directory.0.join("connserver.toml"),
        "[general]\nkey_file = \"edge.key\"\n",
    )
    .expect("written");
    assert!(
        load(&directory.0, None, WhenMissing::Leave, Vec::new()).is_ok(),
        "it is made at the start"
    );
    directory.write("nonsense");
    let problems = load(&directory.0, None, WhenMissing::Leave, Vec::new())
        .map(|_| ())
        .map_err(|p| p.to_string());
    let says = format!(
        "connserver.toml:2: general.key_file = \"edge.key\": {}: there is no secp256k1 key in it as an edge writes it",
        directory.key().display()
    );
    assert_eq!(problems, Err(says));
}

/// A start would create it, so `check` and the start tell alike. A reload does not touch it.
#[test]
fn g11_10_a_key_file_that_cannot_be_made_is_a_problem_of_the_configuration() {
    let directory = Directory::new("unwritable");
    let config = |key_file: &str| {
        let text = format!("[general]\nkey_file = \"{key_file}\"\n");
        fs::write(directory.0.join("connserver.toml"), text).expect("written");
    };
    let problems = |missing| {
        let loaded = load(&directory.0, None, missing, Vec::new());
        loaded.map(|_| ()).map_err(|problems| problems.to_string())
    };
    let refused = |key_file: &str, why: &str| {
        config(key_file);
        let path = directory.0.join(key_file);
        let says = format!(
            "connserver.toml:2: general.key_file = \"{key_file}\": {}: does not exist and cannot be written: {why}",
            path.display()
        );
        for missing in [WhenMissing::Leave, WhenMissing::Write] {
            assert_eq!(problems(missing), Err(says.clone()), "{missing:?}");
        }
        assert!(!path.exists());
    };
    refused("no/edge.key", "No such file or directory (os error 2)");
    let again = WhenMissing::Keep {
        has_file: true,
        has_dotenv: false,
    };
    assert_eq!(problems(again), Ok(()));
    fs::create_dir(directory.0.join("keys")).expect("a directory can be made");
    config("keys/edge.key");
    assert_eq!(problems(WhenMissing::Leave), Ok(()));
    let entries = fs::read_dir(directory.0.join("keys")).expect("it can be read");
    assert_eq!(entries.count(), 0, "check writes nothing");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let keys = directory.0.join("keys");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o500)).expect("our own");
        match fs::File::create(keys.join("probe")) {
            // The superuser writes everywhere.
            Ok(_) => assert_eq!(problems(WhenMissing::Leave), Ok(())),
            Err(_) => refused("keys/edge.key", "Permission denied (os error 13)"),
        }
    }
}
